// fc2(gelu(fc1(x))) plus the residual. Either weight may have a pattern.
#pragma once

#include <algorithm>

#include "layers/linear.h"

namespace pyllmc {

class Mlp {
 public:
  Mlp(ParameterTable& table, const std::string& name, int64_t channels, int64_t hidden,
      Initial weight, Initial projection_weight, Initial fc1_bias, Initial fc2_bias,
      const Pattern& fc1, const Pattern& fc2)
      : hidden_(hidden),
        fc1_(table, name + "fc", hidden, channels, weight, fc1_bias, fc1),
        fc2_(table, name + "fcproj", channels, hidden, projection_weight, fc2_bias, fc2) {}

  void reserve(Arena& arena, int64_t rows) {
    hidden_out_ = arena.reserve({rows, hidden_});
    gelu_out_ = arena.reserve({rows, hidden_});
  }

  // y = residual + fc2(gelu(fc1(x))), keeping what backward needs.
  void forward(const Context& context, ConstTensor x, ConstTensor residual, Tensor y) const {
    apply(context, x, residual, y, hidden_out_, gelu_out_);
  }

  // The same with the caller's buffers (rows, hidden).
  void apply(const Context& context, ConstTensor x, ConstTensor residual, Tensor y, Tensor hidden,
             Tensor gelu) const {
    fc1_.forward(context, x, hidden, {}, gelu);
    fc2_.forward(context, gelu, y, residual);
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

  const Linear& fc1() const { return fc1_; }
  const Linear& fc2() const { return fc2_; }

 private:
  int64_t hidden_;
  Linear fc1_, fc2_;
  Tensor hidden_out_, gelu_out_;
};

}  // namespace pyllmc
