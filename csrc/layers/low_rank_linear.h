// A linear layer whose weight is full, with a pattern, or a product of two thin ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include "layers/linear.h"

namespace pyllmc {

class LowRankLinear {
 public:
  // Rank 0 adds <name>w (outputs, inputs) and <name>b (outputs). Rank r adds <name>inw (r, inputs),
  // <name>w (outputs, r) and <name>b: y = (x inw^T) w^T + b. With `weight` normal of standard
  // deviation s, both factors are drawn with sqrt(s) / r^(1/4), so that the product's entries have
  // s too (a sum of r products of variance s^2 / r).
  LowRankLinear(ParameterTable& table, const std::string& name, int64_t outputs, int64_t inputs,
                Initial weight, Initial bias, int64_t rank, const Pattern& pattern) {
    if (rank == 0) {
      out_.emplace(table, name, outputs, inputs, weight, bias, pattern);
      return;
    }
    const Initial factor = {weight.kind,
                            std::sqrt(weight.scale / std::sqrt(static_cast<double>(rank)))};
    in_.emplace(table, name + "in", rank, inputs, factor, std::nullopt);
    out_.emplace(table, name, outputs, rank, factor, bias);
  }

  void reserve(Arena& arena, DType activations, int64_t rows) {
    if (!in_) return;
    inner_ = arena.reserve({rows, rank()}, activations);
    dinner_ = arena.reserve({rows, rank()}, activations);
  }

  // `inner` (rows, rank) holds what stands between the factors; inner() for what backward needs.
  void forward(const Context& context, ConstTensor x, Tensor y, Tensor inner,
               ConstTensor residual = {}, Tensor gelu = {}) const {
    if (in_) in_->forward(context, x, inner);
    out_->forward(context, in_ ? ConstTensor(inner) : x, y, residual, gelu);
  }

  void backward(const Context& context, ConstTensor dy, ConstTensor x, Tensor dx,
                ConstTensor activation = {}) const {
    if (!in_) return out_->backward(context, dy, x, dx, activation);
    out_->backward(context, dy, inner_, dinner_);
    in_->backward(context, dinner_, x, dx, activation);
  }

  int64_t workspace(const Context& context, int64_t rows, bool gradients) const {
    const int64_t out = out_->workspace(context, rows, gradients);
    return in_ ? std::max(out, in_->workspace(context, rows, gradients)) : out;
  }

  int64_t rank() const { return in_ ? in_->weight().rows : 0; }
  Tensor inner() const { return inner_; }
  // The full weight, or the second factor.
  const Parameter& weight() const { return out_->weight(); }
  // Weights that may be non-zero, in both factors.
  int64_t kept() const {
    return weight().pattern.kept() + (in_ ? in_->weight().pattern.kept() : 0);
  }

 private:
  std::optional<Linear> in_, out_;
  Tensor inner_, dinner_;
};

}  // namespace pyllmc
