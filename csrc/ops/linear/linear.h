// y = epilogue(x w^T + b), with what pays to be done while a tile of y is still in cache.
//
// x (M, K) inputs, w (N, K) weight, b (N) bias or null. Epilogues: GELU keeps the value before it
// (backward needs it); residual adds the residual stream. Backward:
//   dx  = dy w              (times gelu'(activation) when the layer's input was gelu(activation))
//   dw += dy^T x            (then 0 outside `pattern`)
//   db += sum over M of dy
// Sums over M run in order within a tile whose shape follows from (M, N, K) alone.
//
// x, gelu, activation, dy and dx are of the context's activations() type; w, b, residual, dw and db
// are fp32. y is fp32 with a residual, else either. A GPU whose activations are bf16 reads w_bf16
// and b_bf16, the copies that AdamW keeps. With by_library, a GPU multiplies a stored band by
// batched products of its library over the tiles: the oracle and the yardstick of its own kernels.
#pragma once

#include "core/context.h"
#include "sparsity/band_layout.h"
#include "sparsity/pattern.h"
#include "sparsity/pattern_tables.h"

namespace pyllmc {

struct LinearForward {
  ConstTensor x;                      // (M, K)
  ConstTensor w;                      // (N, K)
  ConstTensor b;                      // (N) or null
  Tensor y;                           // (M, N): x w^T + b + residual
  ConstTensor residual{};             // (M, N) or null
  Tensor gelu{};                      // (M, N) or null: gelu(y)
  TensorOf<const uint16_t> w_bf16{};  // like w, or null: on the CPU read instead for a few rows
  TensorOf<const uint16_t> b_bf16{};  // (N) or null
  const BandLayout* band = nullptr;   // set: w is that layout's floats
  BandTable band_table{};             // the same layout in a GPU's memory
  bool by_library = false;            // see above
};

struct LinearBackward {
  ConstTensor dy;                     // (M, N)
  ConstTensor x;                      // (M, K)
  ConstTensor w;                      // (N, K)
  Tensor dx;                          // (M, K), overwritten; overlaps nothing else
  Tensor dw;                          // (N, K), accumulated
  Tensor db;                          // (N) or null, accumulated
  const Pattern* pattern;             // of w; never null
  ConstTensor activation{};           // (M, K) or null: dx *= gelu'(activation)
  TensorOf<const uint16_t> w_bf16{};  // like w, or null
  KeptBits kept{};                    // `pattern` in a GPU's memory; null when dense or a band
  const BandLayout* band = nullptr;   // set: w and dw are that layout's floats
  BandTable band_table{};             // the same layout in a GPU's memory
  bool by_library = false;            // see above
};

struct LinearKernels {
  void (*forward)(const Context&, const LinearForward&);
  void (*backward)(const Context&, const LinearBackward&);
  int64_t (*workspace)(const Context&, int64_t M, int64_t K, int64_t N, bool gradients,
                       const BandLayout* band, bool by_library);
};
extern const LinearKernels linear_cpu;

void linear_forward(const Context& context, const LinearForward& args);
void linear_backward(const Context& context, const LinearBackward& args);
// Floats of workspace that forward, or forward and backward, need for these sizes.
int64_t linear_workspace(const Context& context, int64_t M, int64_t K, int64_t N, bool gradients,
                         const BandLayout* band = nullptr, bool by_library = false);

}  // namespace pyllmc
