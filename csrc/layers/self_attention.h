// Causal self-attention with its two projections; the residual is added by the second one.
#pragma once

#include <algorithm>

#include "layers/linear.h"
#include "ops/attention/attention.h"

namespace pyllmc {

class SelfAttention {
 public:
  SelfAttention(ParameterTable& table, const std::string& name, int64_t channels, int64_t heads,
                Initial weight, Initial projection_weight, Initial bias)
      : channels_(channels),
        heads_(heads),
        qkv_(table, name + "qkv", 3 * channels, channels, weight, bias),
        projection_(table, name + "attproj", channels, channels, projection_weight, bias) {}

  void reserve(Arena& arena, int64_t B, int64_t T) {
    B_ = B;
    T_ = T;
    qkv_out_ = arena.reserve({B * T, 3 * channels_});
    heads_out_ = arena.reserve({B * T, channels_});
    log_sum_exp_ = arena.reserve({B, heads_, T});
  }

  int64_t workspace(const Context& context, int64_t B, int64_t T, bool gradients) const {
    return std::max({attention_workspace(context, T, heads_),
                     qkv_.workspace(context, B * T, gradients),
                     projection_.workspace(context, B * T, gradients)});
  }

  // y = residual + projection(attention(qkv(x))); rows are B T.
  void forward(const Context& context, ConstTensor x, ConstTensor residual, Tensor y) const {
    qkv_.forward(context, x, qkv_out_);
    attention_forward(context, {.qkv = by_batch(qkv_out_.data(), 3 * channels_),
                                .out = by_batch(heads_out_.data(), channels_),
                                .log_sum_exp = log_sum_exp_});
    projection_.forward(context, heads_out_, y, residual);
  }

  // dx of dy; `wide` (B T, 3C) and `narrow` (B T, C) are scratch.
  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx, Tensor wide,
                Tensor narrow) const {
    projection_.backward(context, dy, heads_out_, narrow);
    attention_backward(context, {.dout = by_batch(narrow.data(), channels_),
                                 .out = by_batch(heads_out_.data(), channels_),
                                 .qkv = by_batch(qkv_out_.data(), 3 * channels_),
                                 .log_sum_exp = log_sum_exp_,
                                 .dqkv = by_batch(wide.data(), 3 * channels_)});
    qkv_.backward(context, wide, x, dx);
  }

  // One position against a cache of `positions` - 1 earlier ones in keys and values (capacity, C);
  // its own key and value are added to the cache. `qkv` (1, 3C) and `out` (1, C) are scratch.
  void decode(const Context& context, ConstTensor x, ConstTensor residual, Tensor y, Tensor keys,
              Tensor values, int64_t positions, Tensor qkv, Tensor out) const {
    qkv_.forward(context, x, qkv);
    const int64_t C = channels_;
    std::copy_n(qkv.data() + C, C, keys.data() + (positions - 1) * C);
    std::copy_n(qkv.data() + 2 * C, C, values.data() + (positions - 1) * C);
    attention_decode(context, {.qkv = qkv,
                               .keys = ConstTensor(keys.data(), {positions, C}),
                               .values = ConstTensor(values.data(), {positions, C}),
                               .out = out,
                               .heads = heads_});
    projection_.forward(context, out, y, residual);
  }

 private:
  Tensor by_batch(float* data, int64_t width) const { return {data, {B_, T_, width}}; }

  int64_t channels_, heads_;
  Linear qkv_, projection_;
  int64_t B_ = 0, T_ = 0;
  Tensor qkv_out_, heads_out_, log_sum_exp_;
};

}  // namespace pyllmc
