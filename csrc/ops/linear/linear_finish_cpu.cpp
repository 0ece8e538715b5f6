#include "ops/linear/linear_cpu.h"

namespace pyllmc {
namespace {

// Whether a tensor is so large that nothing finds it in a cache when it is read next.
bool streams(const Tensor& out) {
  constexpr int64_t kCaches = 16 << 20;
  return out && out.bytes() >= kCaches && out.dim(1) % kLanes == 0 &&
         reinterpret_cast<uintptr_t>(out.data()) % 64 == 0;
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

// By columns of 16, whose bias is read once. What a large layer writes and nothing else touches has
// a loop without decisions: it runs for every tile.
PYLLMC_SIMD void finish(const LinearForward& a, const float* sums, int64_t ld, int64_t row,
                        int64_t rows, int64_t col, int64_t cols) {
  const int64_t N = a.y.dim(1);
  if (sums == a.y.data() + row * N + col && !a.b && !a.residual && !a.gelu) return;
  const bool stream = streams(a.y);
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t n = cols - c < kLanes ? cols - c : kLanes, first = row * N + col + c;
    const f32x16 b = a.b ? load_lanes(a.b.data() + col + c, n, 0) : f32x16{};
    float* y = a.y.data() + first;
    if (n == kLanes && stream && !a.residual && !a.gelu) {
      for (int64_t i = 0; i < rows; ++i) stream16(y + i * N, load16(sums + i * ld + c) + b);
      continue;
    }
    for (int64_t i = 0; i < rows; ++i) {
      f32x16 value = load_lanes(sums + i * ld + c, n, 0) + b;
      if (a.residual) value += load_lanes(a.residual.data() + first + i * N, n, 0);
      put(y + i * N, value, n, stream);
      if (a.gelu) put(a.gelu.data() + first + i * N, gelu16(value), n, stream);
    }
  }
}

PYLLMC_SIMD void finish(const LinearBackward& a, const float* sums, int64_t ld, int64_t row,
                        int64_t rows, int64_t col, int64_t cols) {
  const int64_t K = a.dx.dim(1);
  const bool stream = streams(a.dx);
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t n = cols - c < kLanes ? cols - c : kLanes, first = row * K + col + c;
    float* dx = a.dx.data() + first;
    if (n == kLanes && stream && !a.activation) {
      for (int64_t i = 0; i < rows; ++i) stream16(dx + i * K, load16(sums + i * ld + c));
      continue;
    }
    for (int64_t i = 0; i < rows; ++i) {
      f32x16 value = load_lanes(sums + i * ld + c, n, 0);
      if (a.activation)
        value *= gelu_derivative16(load_lanes(a.activation.data() + first + i * K, n, 0));
      put(dx + i * K, value, n, stream);
    }
  }
}

}  // namespace pyllmc
