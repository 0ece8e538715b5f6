// Sums over the rows of a batch on a GPU: parts of the rows are summed apart and the parts added up
// in order.
#pragma once

#include <algorithm>

#include "ops/linear/linear.h"

namespace pyllmc::cuda {

// How M rows are cut for `blocks` blocks a part when `places` run at once: by the shape alone.
struct RowParts {
  RowParts(int64_t M, int64_t blocks, int64_t places, int64_t granule) {
    constexpr int64_t kFewestRows = 128;
    const int64_t wanted =
        std::clamp<int64_t>(places / blocks, 1, (M + kFewestRows - 1) / kFewestRows);
    rows = ((M + wanted - 1) / wanted + granule - 1) / granule * granule;
    count = (M + rows - 1) / rows;
  }
  int64_t rows, count;
};

// out[i] += sum over parts of parts[part n + i].
void add_parts(const Context& context, const float* parts, int64_t n, int64_t count, float* out);
// The same for the `floats` of a band's tiles; what lies outside the band stays as it is.
void add_band_parts(const Context& context, const BandTable& band, const float* parts,
                    int64_t floats, int64_t count, float* out);

// db (N) += sum over M of dy (M, N).
void add_column_sums(const Context& context, ConstTensor dy, Tensor db, float* workspace);
int64_t column_sums_workspace(int64_t M, int64_t N);

}  // namespace pyllmc::cuda
