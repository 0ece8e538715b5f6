// A linear layer: its weight, its bias, and the pattern of its weight.
#pragma once

#include <optional>

#include "layers/parameter.h"
#include "ops/linear/linear.h"

namespace pyllmc {

class Linear {
 public:
  // Adds <name>w (outputs, inputs) and, if it has an initial value, <name>b (outputs) to the table.
  Linear(ParameterTable& table, const std::string& name, int64_t outputs, int64_t inputs,
         Initial weight, std::optional<Initial> bias, std::optional<Pattern> pattern = {})
      : weight_(table.add({.name = name + "w",
                           .rows = outputs,
                           .cols = inputs,
                           .is_matrix = true,
                           .initial = weight,
                           .pattern = pattern.value_or(Pattern::dense(outputs, inputs))})),
        bias_(bias ? &table.add({.name = name + "b", .cols = outputs, .initial = *bias})
                   : nullptr) {}

  void forward(const Context& context, ConstTensor x, Tensor y, ConstTensor residual = {},
               Tensor gelu = {}) const {
    linear_forward(context, {.x = x,
                             .w = weight_.value,
                             .b = bias_ ? ConstTensor(bias_->value) : ConstTensor(),
                             .y = y,
                             .residual = residual,
                             .gelu = gelu,
                             .w_bf16 = weight_.bf16,
                             .b_bf16 = bias_ ? bias_->bf16 : TensorOf<uint16_t>(),
                             .band = weight_.band.get(),
                             .band_table = weight_.device_band.table});
  }

  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx,
                ConstTensor activation = {}) const {
    linear_backward(context, {.dy = dy,
                              .x = x,
                              .w = weight_.value,
                              .dx = dx,
                              .dw = weight_.gradient,
                              .db = bias_ ? bias_->gradient : Tensor(),
                              .pattern = &weight_.pattern,
                              .activation = activation,
                              .w_bf16 = weight_.bf16,
                              .kept = weight_.device_mask.bits,
                              .band = weight_.band.get(),
                              .band_table = weight_.device_band.table});
  }

  // Floats of workspace for this many rows.
  int64_t workspace(const Context& context, int64_t rows, bool gradients) const {
    return linear_workspace(context, rows, weight_.cols, weight_.rows, gradients,
                            weight_.band.get());
  }

  const Parameter& weight() const { return weight_; }

 private:
  Parameter& weight_;
  Parameter* bias_;  // null without one
};

}  // namespace pyllmc
