// Layer normalization (Ba et al. 2016): y = (x - mean) rstd * weight + bias over the last axis,
// variance without Bessel's correction, rstd = 1 / sqrt(variance + 1e-5).
//
// Rows = B T. Backward needs x, mean and rstd; it adds to dx (the residual stream's gradient is
// already there), dweight and dbias. Sums over rows go by blocks of fixed size, in order. y and dy
// are of the context's activations() type, the rest is fp32.
#pragma once

#include "core/context.h"

namespace pyllmc {

constexpr float kLayerNormEpsilon = 1e-5f;

struct LayerNormForward {
  ConstTensor x;             // (rows, C)
  ConstTensor weight, bias;  // (C)
  Tensor y;                  // (rows, C)
  Tensor mean, rstd;         // (rows)
};

struct LayerNormBackward {
  ConstTensor dy, x;       // (rows, C)
  ConstTensor weight;      // (C)
  ConstTensor mean, rstd;  // (rows)
  Tensor dx;               // (rows, C), accumulated
  Tensor dweight, dbias;   // (C), accumulated
  Tensor dx_copy{};        // (rows, C) of the activations() type, or null: the new dx once more
};

struct LayerNormKernels {
  void (*forward)(const Context&, const LayerNormForward&);
  void (*backward)(const Context&, const LayerNormBackward&);
  int64_t (*workspace)(const Context&, int64_t rows, int64_t channels);
};
extern const LayerNormKernels layernorm_cpu;

void layernorm_forward(const Context& context, const LayerNormForward& args);
void layernorm_backward(const Context& context, const LayerNormBackward& args);
// Floats of workspace that backward needs.
int64_t layernorm_workspace(const Context& context, int64_t rows, int64_t channels);

}  // namespace pyllmc
