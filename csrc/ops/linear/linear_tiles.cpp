#include "ops/linear/linear_tiles.h"

namespace pyllmc {
namespace {

PYLLMC_SIMD void multiply_by_gelu_derivative(float* dx, const float* activation, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    store16(dx + c, load16(dx + c) * gelu_derivative16(load16(activation + c)));
  }
  if (const int64_t rest = n - whole) {
    const f32x16 slope = gelu_derivative16(load_part(activation + whole, rest, 0));
    store_part(dx + whole, load_part(dx + whole, rest, 0) * slope, rest);
  }
}

}  // namespace

PYLLMC_SIMD void finish_tile(const LinearForward& a, int64_t row_begin, int64_t rows, int64_t col,
                             int64_t cols) {
  const int64_t N = a.y.dim(1);
  for (int64_t row = row_begin; row < row_begin + rows; ++row) {
    float* y = a.y.data() + row * N + col;
    if (a.b) {
      const float* b = a.b.data() + col;
      for (int64_t c = 0; c < cols; ++c) y[c] += b[c];
    }
    if (a.residual) {
      const float* residual = a.residual.data() + row * N + col;
      for (int64_t c = 0; c < cols; ++c) y[c] += residual[c];
    }
    if (a.gelu) {
      float* out = a.gelu.data() + row * N + col;
      const int64_t whole = cols / kLanes * kLanes;
      for (int64_t c = 0; c < whole; c += kLanes) store16(out + c, gelu16(load16(y + c)));
      if (const int64_t n = cols - whole) {
        store_part(out + whole, gelu16(load_part(y + whole, n, 0)), n);
      }
    }
  }
}

void finish_tile(const LinearBackward& a, int64_t row_begin, int64_t rows, int64_t col,
                 int64_t cols) {
  if (!a.activation) return;
  const int64_t K = a.dx.dim(1);
  for (int64_t row = row_begin; row < row_begin + rows; ++row) {
    multiply_by_gelu_derivative(a.dx.data() + row * K + col, a.activation.data() + row * K + col,
                                cols);
  }
}

PYLLMC_SIMD void add_column_sums(const float* values, int64_t rows, int64_t N, float* sums) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t n = 0; n < N; ++n) sums[n] += values[row * N + n];
  }
}

PYLLMC_SIMD void add_row(float* out, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += values[i];
}

}  // namespace pyllmc
