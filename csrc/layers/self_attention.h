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

  void reserve(Arena& arena, DType activations, int64_t B, int64_t T) {
    B_ = B;
    T_ = T;
    qkv_out_ = arena.reserve({B * T, 3 * channels_}, activations);
    heads_out_ = arena.reserve({B * T, channels_}, activations);
    log_sum_exp_ = arena.reserve({B, heads_, T});
  }

  int64_t workspace(const Context& context, int64_t B, int64_t T, bool gradients) const {
    return std::max({attention_workspace(context, B, T, channels_, heads_),
                     qkv_.workspace(context, B * T, gradients),
                     projection_.workspace(context, B * T, gradients)});
  }

  // y = residual + projection(attention(qkv(x))); rows are B T.
  void forward(const Context& context, ConstTensor x, ConstTensor residual, Tensor y) const {
    qkv_.forward(context, x, qkv_out_);
    attention_forward(
        context,
        {.qkv = by_batch(qkv_out_), .out = by_batch(heads_out_), .log_sum_exp = log_sum_exp_});
    projection_.forward(context, heads_out_, y, residual);
  }

  // dx of dy; `wide` (B T, 3C) and `narrow` (B T, C) are scratch.
  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx, Tensor wide,
                Tensor narrow) const {
    projection_.backward(context, dy, heads_out_, narrow);
    attention_backward(context, {.dout = by_batch(narrow),
                                 .out = by_batch(heads_out_),
                                 .qkv = by_batch(qkv_out_),
                                 .log_sum_exp = log_sum_exp_,
                                 .dqkv = by_batch(wide)});
    qkv_.backward(context, wide, x, dx);
  }

  // Position number *position (in the device's memory) against a cache of those before it in keys
  // and values (capacity, C), to which its own are added. `qkv` (1, 3C), `out` (1, C): scratch.
  void decode(const Context& context, ConstTensor x, ConstTensor residual, Tensor y, Tensor keys,
              Tensor values, const int32_t* position, Tensor qkv, Tensor out) const {
    qkv_.forward(context, x, qkv);
    attention_decode(context, {.qkv = qkv,
                               .keys = keys,
                               .values = values,
                               .position = position,
                               .out = out,
                               .heads = heads_});
    projection_.forward(context, out, y, residual);
  }

 private:
  Tensor by_batch(Tensor rows) const { return {rows.data(), {B_, T_, rows.dim(1)}, rows.type()}; }

  int64_t channels_, heads_;
  Linear qkv_, projection_;
  int64_t B_ = 0, T_ = 0;
  Tensor qkv_out_, heads_out_, log_sum_exp_;
};

}  // namespace pyllmc
