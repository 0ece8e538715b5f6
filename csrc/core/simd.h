// Sixteen-lane float vectors in GCC's portable vector extension, and the functions of them that the
// kernels need. A kernel marked PYLLMC_SIMD is compiled for AVX-512, AVX2 and plain x86-64, and the
// loader picks one at start-up; elsewhere (ARM) the compiler lowers the same code to what there is.
// All versions keep sixteen partial sums, so the order of every sum is the same.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#if defined(__clang__) || __GNUC__ < 12
#error "pyllmc needs g++ 12 or later, whose vectors it uses: set CXX=g++"
#endif
#ifdef __x86_64__
#define PYLLMC_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PYLLMC_SIMD
#endif
#define PYLLMC_INLINE static inline __attribute__((always_inline))
#define PYLLMC_INLINE_MEMBER inline __attribute__((always_inline))
#define PYLLMC_INLINE_LAMBDA __attribute__((always_inline))

namespace pyllmc {

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));

constexpr int64_t kLanes = 16;

PYLLMC_INLINE f32x16 load16(const float* p) {
  f32x16 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
PYLLMC_INLINE void store16(float* p, f32x16 v) { std::memcpy(p, &v, sizeof v); }

// A store past the caches, for a large array that is read much later: its lines are neither fetched
// first nor displace others. `p` is aligned to 64 bytes. stream_fence() ends a run of them, before
// another thread reads.
PYLLMC_INLINE void stream16(float* p, f32x16 v) {
#ifdef __SSE2__
  __m128 quarters[4];
  std::memcpy(quarters, &v, sizeof quarters);
  for (int i = 0; i < 4; ++i) _mm_stream_ps(p + 4 * i, quarters[i]);
#else
  store16(p, v);
#endif
}
PYLLMC_INLINE void stream_fence() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

// The first n < 16 lanes; the others are `fill`.
PYLLMC_INLINE f32x16 load_part(const float* p, int64_t n, float fill) {
  f32x16 v = fill - f32x16{};
  std::memcpy(&v, p, static_cast<size_t>(n) * sizeof(float));
  return v;
}
PYLLMC_INLINE f32x16 load_lanes(const float* p, int64_t n, float fill) {  // n <= 16
  return n == kLanes ? load16(p) : load_part(p, n, fill);
}
PYLLMC_INLINE void store_part(float* p, f32x16 v, int64_t n) {
  std::memcpy(p, &v, static_cast<size_t>(n) * sizeof(float));
}

PYLLMC_INLINE f32x16 broadcast(float x) { return x - f32x16{}; }

// Pairwise over the lanes, in a fixed order.
PYLLMC_INLINE float sum16(f32x16 v) {
  float a[16];
  std::memcpy(a, &v, sizeof v);
  for (int width = 8; width; width /= 2) {
    for (int i = 0; i < width; ++i) a[i] += a[i + width];
  }
  return a[0];
}

// The shuffles that transpose 4 x 4 entries in every quarter of four registers a, b, c, d: columns
// 0 and 1, or 2 and 3, of a with b and of c with d, then one column of each of the two results.
constexpr i32x16 kLowColumns = {0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29};
constexpr i32x16 kHighColumns = {2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31};
constexpr i32x16 kFirstColumn = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
constexpr i32x16 kSecondColumn = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};

// out[i] = the sum of v[i], all four at once: pairs, then quarters in order.
PYLLMC_INLINE void sum16_of_four(const f32x16 v[4], float out[4]) {
  const f32x16 a =
      __builtin_shuffle(v[0], v[1], kLowColumns) + __builtin_shuffle(v[0], v[1], kHighColumns);
  const f32x16 b =
      __builtin_shuffle(v[2], v[3], kLowColumns) + __builtin_shuffle(v[2], v[3], kHighColumns);
  const f32x16 sums =
      __builtin_shuffle(a, b, kFirstColumn) + __builtin_shuffle(a, b, kSecondColumn);
  typedef float f32x4 __attribute__((vector_size(16)));
  f32x4 quarters[4];
  std::memcpy(quarters, &sums, sizeof quarters);
  const f32x4 total = (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
  std::memcpy(out, &total, sizeof total);
}
PYLLMC_INLINE float max16(f32x16 v) {
  float a[16];
  std::memcpy(a, &v, sizeof v);
  for (int width = 8; width; width /= 2) {
    for (int i = 0; i < width; ++i) a[i] = a[i] > a[i + width] ? a[i] : a[i + width];
  }
  return a[0];
}
PYLLMC_INLINE f32x16 max16(f32x16 a, f32x16 b) { return a > b ? a : b; }

// e^x to 2 units in the last place for x in [-86.9, 88.7]; 0 below, infinity above, NaN kept.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^x = 2 e^r 2^(n - 1), so that n = 128 fits one exponent.
// The polynomial is 2 e^r to a relative 3e-9, with the smallest largest error of its degree.
PYLLMC_INLINE f32x16 exp16(f32x16 x) {
  // There 2^(n - 1) has exponent 0, which is 0, and 2^128 overflows.
  const f32x16 low = broadcast(-87.33f), high = broadcast(89.0f);
  f32x16 clamped = low > x ? low : x;
  clamped = high < clamped ? high : clamped;
  // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the low bits; there
  // n + 126 is the biased exponent of 2^(n - 1).
  const f32x16 shifter = broadcast(12582912.0f + 126);
  const f32x16 shifted = clamped * 1.44269504f + shifter;
  const f32x16 n = shifted - shifter;
  f32x16 r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32x16 p = broadcast(2 * 0.0013814584f);
  p = p * r + 2 * 0.008368724f;
  p = p * r + 2 * 0.04166839f;
  p = p * r + 2 * 0.16666521f;
  p = p * r + 2 * 0.49999994f;
  p = p * r + 2.0f;
  p = p * r + 2.0f;
  i32x16 bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23;
  f32x16 power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

// GELU in its tanh form, x/2 (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), which is
// x / (1 + e^{-2u}) (Hendrycks & Gimpel 2016).
constexpr float kGeluScale = 0.7978845608f;  // sqrt(2/pi)
constexpr float kGeluCubic = 0.044715f;

PYLLMC_INLINE f32x16 gelu16(f32x16 x) {
  const f32x16 u = kGeluScale * (x + kGeluCubic * x * x * x);
  return x / (1.0f + exp16(-2.0f * u));
}
// d gelu / dx = s + x s (1 - s) 2 u'  with s = 1 / (1 + e^{-2u}).
PYLLMC_INLINE f32x16 gelu_derivative16(f32x16 x) {
  const f32x16 u = kGeluScale * (x + kGeluCubic * x * x * x);
  const f32x16 s = 1.0f / (1.0f + exp16(-2.0f * u));
  const f32x16 du = kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
  return s + x * s * (1.0f - s) * 2.0f * du;
}

// out (n) += values.
void add_row(float* out, const float* values, int64_t n);

}  // namespace pyllmc
