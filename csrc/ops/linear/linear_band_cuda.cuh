// The products of a stored band on a GPU; linear_band_cpu.cpp names them. With T a tile
// [window][32]:
//   expand    out[m, h] = sum over the window of x[m, c] T[c, h]       FC1 forward, FC2's dx
//   contract  out[m, c] = sum over hidden h of x[m, h] T[c, h]         FC2 forward, FC1's dx
//   gradient  dT[c, h] += sum over m of r[m, c] u[m, h]                both weights
// Grids and the cuts of sums follow from the shapes alone.
#pragma once

#include "ops/linear/linear_finish.cuh"

namespace pyllmc::cuda {

// Forward, or dx of backward: expand when `expands`, else contract. `x` (M, K).
struct BandProduct {
  const void* x;
  const void* w;  // of x's type
  const BandLayout* layout;
  BandTable band;
  Finish finish;  // of out (M, N)
  bool expands;
};
// What `gradient` needs. Parts of the sums over M lie one after another until they are added up.
struct BandGradient {
  const void* residual;  // r (M, C): x of FC1, dy of FC2
  const void* hidden;    // u (M, H): dy of FC1, x of FC2
  const BandLayout* layout;
  BandTable band;
  int64_t M;
  float* dw;         // accumulated
  float* db;         // (H) or null: accumulates the sums of u over M
  float* workspace;  // band_gradient_workspace_*() floats
};

constexpr int kUnit = 8;  // bf16 elements of 16 bytes

// bf16 operands on tensor cores, for bands that have_units(); the gradient only where it fits.
inline bool have_units(const BandLayout& band) {
  return band.hidden() % kUnit == 0 && band.residual() % kUnit == 0;
}
void band_product_bf16(const Context& context, const BandProduct& args);
bool band_gradient_fits(const BandLayout& layout);
void band_gradient_bf16(const Context& context, const BandGradient& args);
int64_t band_gradient_workspace_bf16(const BandLayout& layout, int64_t M);

// Operands of any type, of which bf16 is widened; products in fp32, or in TF32 when the context's
// precision is that.
void band_product_plain(const Context& context, const BandProduct& args);
void band_gradient_plain(const Context& context, const BandGradient& args);
int64_t band_gradient_workspace_plain(const BandLayout& layout, int64_t M);

// By the library's batched products; the oracle of the others. `type` is that of the operands.
void band_product_by_library(const Context& context, const BandProduct& args, DType type,
                             float* workspace);
void band_gradient_by_library(const Context& context, const BandGradient& args, DType type);
int64_t band_workspace_by_library(const BandLayout& layout, int64_t M);

// The epilogue of sums (M, N) that lie in memory.
void finish_sums(const Context& context, const Finish& finish, const float* sums);

}  // namespace pyllmc::cuda
