// What the dense and the banded linear kernels of the CPU share: cuts, and the work on a tile of
// results that has just been computed.
#pragma once

#include <algorithm>

#include "core/panels.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/threads.h"
#include "core/transpose.h"
#include "ops/linear/linear.h"

namespace pyllmc {

// Cuts of sums, chosen by the shape of the problem alone. Where a cut only deals out whole results,
// it may also look at the number of threads: no bit depends on it.
constexpr int64_t kFewRows = 4;      // up to this many rows are dot products, not tiles
constexpr int64_t kChunkRows = 256;  // rows of x and dy that dw sums at once

// Rows of x or dy whose packed panels stay in a core's second-level cache.
constexpr int64_t kMostRows = 192, kMostCols = 32;  // of a block, of its tiles
inline int64_t cached_rows(int64_t units) {
  return units <= 512 ? kMostRows : units <= 1024 ? 96 : 48;
}
// The same of M rows, or fewer, so that every thread has two blocks.
inline int64_t row_block(int64_t units, int64_t M, int threads) {
  constexpr int64_t kLeast = 48;
  if (threads == 1) return cached_rows(units);
  const int64_t fair = ceil_div(ceil_div(M, int64_t{2} * threads), kLeast) * kLeast;
  return std::clamp(fair, kLeast, cached_rows(units));
}

// y = sums + bias + residual and its GELU, for the rows and columns of y from (row, col) on; sums
// (rows, cols) have the leading dimension ld and may be y's own memory. A work item that has
// finished its parts ends with stream_fence().
void finish(const LinearForward& a, const float* sums, int64_t ld, int64_t row, int64_t rows,
            int64_t col, int64_t cols);
// dx = sums, times gelu'(activation) where there is one.
void finish(const LinearBackward& a, const float* sums, int64_t ld, int64_t row, int64_t rows,
            int64_t col, int64_t cols);

// The same ops on a weight that stores its band only (args.band is set).
void band_forward(const Context& context, const LinearForward& args);
void band_backward(const Context& context, const LinearBackward& args);
int64_t band_workspace(const Context& context, int64_t M, const BandLayout& band, bool gradients);

}  // namespace pyllmc
