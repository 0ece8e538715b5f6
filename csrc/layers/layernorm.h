// A layer norm: its gain and bias, and the statistics that backward needs.
#pragma once

#include "layers/parameter.h"
#include "ops/layernorm/layernorm.h"

namespace pyllmc {

class LayerNorm {
 public:
  // Adds <name>w and <name>b, (channels) each, to the table.
  LayerNorm(ParameterTable& table, const std::string& name, int64_t channels)
      : weight_(table.add(
            {.name = name + "w", .cols = channels, .initial = {Initial::Kind::constant, 1.0}})),
        bias_(table.add({.name = name + "b", .cols = channels})) {}

  // Reserves the output and the row statistics.
  void reserve(Arena& arena, DType activations, int64_t rows) {
    y_ = arena.reserve({rows, weight_.cols}, activations);
    mean_ = arena.reserve({rows});
    rstd_ = arena.reserve({rows});
  }

  // Returns the normalized rows, kept until the next forward.
  Tensor forward(const Context& context, ConstTensor x) const {
    layernorm_forward(context, {.x = x,
                                .weight = weight_.value,
                                .bias = bias_.value,
                                .y = y_,
                                .mean = mean_,
                                .rstd = rstd_});
    return y_;
  }

  // The same without keeping anything; `statistics` (rows) is scratch.
  void apply(const Context& context, ConstTensor x, Tensor y, Tensor statistics) const {
    layernorm_forward(context, {.x = x,
                                .weight = weight_.value,
                                .bias = bias_.value,
                                .y = y,
                                .mean = statistics,
                                .rstd = statistics});
  }

  // Adds to dx, and writes the sum into `dx_copy` too unless that is null.
  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx,
                Tensor dx_copy) const {
    layernorm_backward(context, {.dy = dy,
                                 .x = x,
                                 .weight = weight_.value,
                                 .mean = mean_,
                                 .rstd = rstd_,
                                 .dx = dx,
                                 .dweight = weight_.gradient,
                                 .dbias = bias_.gradient,
                                 .dx_copy = dx_copy});
  }

  Tensor output() const { return y_; }

 private:
  Parameter& weight_;
  Parameter& bias_;
  Tensor y_, mean_, rstd_;
};

}  // namespace pyllmc
