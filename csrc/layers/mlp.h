// fc2(gelu(fc1(x))) plus the residual. Either weight may have a pattern; both may be of low rank.
#pragma once

#include <algorithm>

#include "layers/low_rank_linear.h"

namespace pyllmc {

class Mlp {
 public:
  Mlp(ParameterTable& table, const std::string& name, int64_t channels, int64_t hidden,
      Initial weight, Initial projection_weight, Initial fc1_bias, Initial fc2_bias, int64_t rank,
      const Pattern& fc1, const Pattern& fc2)
      : hidden_(hidden),
        fc1_(table, name + "fc", hidden, channels, weight, fc1_bias, rank, fc1),
        fc2_(table, name + "fcproj", channels, hidden, projection_weight, fc2_bias, rank, fc2) {}

  void reserve(Arena& arena, DType activations, int64_t rows) {
    hidden_out_ = arena.reserve({rows, hidden_}, activations);
    gelu_out_ = arena.reserve({rows, hidden_}, activations);
    fc1_.reserve(arena, activations, rows);
    fc2_.reserve(arena, activations, rows);
  }

  // y = residual + fc2(gelu(fc1(x))), keeping what backward needs.
  void forward(const Context& context, ConstTensor x, ConstTensor residual, Tensor y) const {
    run(context, x, residual, y, hidden_out_, gelu_out_, fc1_.inner(), fc2_.inner());
  }

  // The same with the caller's buffers: (rows, hidden) twice and (rows, rank).
  void apply(const Context& context, ConstTensor x, ConstTensor residual, Tensor y, Tensor hidden,
             Tensor gelu, Tensor inner) const {
    run(context, x, residual, y, hidden, gelu, inner, inner);
  }

  // dx of dy; `wide` (rows, hidden) is scratch.
  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx,
                Tensor wide) const {
    fc2_.backward(context, dy, gelu_out_, wide, hidden_out_);
    fc1_.backward(context, wide, x, dx);
  }

  int64_t workspace(const Context& context, int64_t rows, bool gradients) const {
    return std::max(fc1_.workspace(context, rows, gradients),
                    fc2_.workspace(context, rows, gradients));
  }

  const LowRankLinear& fc1() const { return fc1_; }
  const LowRankLinear& fc2() const { return fc2_; }

 private:
  void run(const Context& context, ConstTensor x, ConstTensor residual, Tensor y, Tensor hidden,
           Tensor gelu, Tensor inner1, Tensor inner2) const {
    fc1_.forward(context, x, hidden, inner1, {}, gelu);
    fc2_.forward(context, gelu, y, inner2, residual);
  }

  int64_t hidden_;
  LowRankLinear fc1_, fc2_;
  Tensor hidden_out_, gelu_out_;
};

}  // namespace pyllmc
