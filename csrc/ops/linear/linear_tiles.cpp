#include "ops/linear/linear_tiles.h"

namespace pyllmc {
namespace {

// Whether a tensor is so large that nothing finds it in a cache when it is read next.
bool streams(const Tensor& out) {
  constexpr int64_t kCaches = 16 << 20;
  return out && out.bytes() >= kCaches && out.dim(1) % kLanes == 0 &&
         reinterpret_cast<uintptr_t>(out.data()) % 64 == 0;
}

PYLLMC_INLINE f32x16 lanes(const float* at, int64_t n) {
  return n == kLanes ? load16(at) : load_part(at, n, 0);
}
PYLLMC_INLINE void put(float* at, f32x16 value, int64_t n, bool stream) {
  if (n < kLanes) {
    store_part(at, value, n);
  } else if (stream) {
    stream16(at, value);
  } else {
    store16(at, value);
  }
}

}  // namespace

PYLLMC_SIMD void finish(const LinearForward& a, const float* sums, int64_t ld, int64_t row,
                        int64_t rows, int64_t col, int64_t cols) {
  const int64_t N = a.y.dim(1);
  if (sums == a.y.data() + row * N + col && !a.b && !a.residual && !a.gelu) return;
  const bool stream = streams(a.y);
  for (const int64_t end = row + rows; row < end; ++row, sums += ld) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t n = cols - c < kLanes ? cols - c : kLanes, at = row * N + col + c;
      f32x16 value = lanes(sums + c, n);
      if (a.b) value += lanes(a.b.data() + col + c, n);
      if (a.residual) value += lanes(a.residual.data() + at, n);
      put(a.y.data() + at, value, n, stream);
      if (a.gelu) put(a.gelu.data() + at, gelu16(value), n, stream);
    }
  }
}

PYLLMC_SIMD void finish(const LinearBackward& a, const float* sums, int64_t ld, int64_t row,
                        int64_t rows, int64_t col, int64_t cols) {
  const int64_t K = a.dx.dim(1);
  const bool stream = streams(a.dx);
  for (const int64_t end = row + rows; row < end; ++row, sums += ld) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t n = cols - c < kLanes ? cols - c : kLanes, at = row * K + col + c;
      f32x16 value = lanes(sums + c, n);
      if (a.activation) value *= gelu_derivative16(lanes(a.activation.data() + at, n));
      put(a.dx.data() + at, value, n, stream);
    }
  }
}

PYLLMC_SIMD void add_panel_sums(const float* panel, int64_t rows, int64_t n, float* sums) {
  f32x16 total[2] = {};
  for (int64_t row = 0; row < rows; ++row, panel += 2 * kLanes) {
    total[0] += load16(panel);
    total[1] += load16(panel + kLanes);
  }
  float values[2 * kLanes];
  store16(values, total[0]);
  store16(values + kLanes, total[1]);
  for (int64_t i = 0; i < n; ++i) sums[i] += values[i];
}

PYLLMC_SIMD void add_row(float* out, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += values[i];
}

}  // namespace pyllmc
