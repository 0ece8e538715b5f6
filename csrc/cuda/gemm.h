// Products of matrices in a GPU's memory: the one place that calls cuBLASLt. tests/cuda_emulation/
// has a twin for the CPU.
//
//   out (M, N) = epilogue(a (M, K) b (K, N) + add)
//
// Sums are fp32. Operands are both bf16, or both fp32: then the products are fp32 too, or TF32 when
// the context says so. The algorithm is the library's first choice for the shape, so that the same
// call has the same bits in every run on the same chip.
#pragma once

#include <string>

#include "core/context.h"

namespace pyllmc::cuda {

// Row-major, `ld` elements from one row to the next.
struct GemmOperand {
  const void* data;
  int64_t ld;
  bool transposed = false;  // what is stored is the transpose
  int64_t stride = 0;       // elements from one of a batch to the next
};

enum class GemmEpilogue {
  none,
  bias,             // + bias
  gelu,             // + bias goes to aux, its GELU (tanh form) to out
  gelu_derivative,  // times GELU's derivative at aux
};

struct Gemm {
  int64_t M, N, K;
  DType type;        // of a and b
  GemmOperand a, b;  // (M, K), (K, N)
  void* out;         // (M, N), row-major
  int64_t ld;
  DType out_type;
  int64_t stride = 0;
  const void* add = nullptr;  // laid out as out, or null; out itself accumulates
  GemmEpilogue epilogue = GemmEpilogue::none;
  const void* bias = nullptr;  // (N) of out_type
  void* aux = nullptr;         // laid out as out, of out_type
  int64_t batch = 1;
};

constexpr int64_t kGemmWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kGemmWorkspaceFloats = kGemmWorkspaceBytes / 4;

// Enqueues the product, by plain_gemm() where the library has no algorithm for it. `workspace` has
// kGemmWorkspaceBytes. Throws DeviceError.
void gemm(const Context& context, const Gemm& args, void* workspace);

// The same, but false with nothing enqueued where the library cannot do it: it refuses some fused
// epilogues. What it said once for a plan stands.
bool try_gemm(const Context& context, const Gemm& args, void* workspace);

// The same for every shape and without an epilogue, by a kernel that is slow and short.
void plain_gemm(const Context& context, const Gemm& args);

// "cuBLASLt 13.0.2"
std::string gemm_name();

}  // namespace pyllmc::cuda
