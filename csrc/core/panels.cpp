#include "core/panels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/bf16.h"
#include "core/simd.h"
#include "core/threads.h"

#ifdef __x86_64__
#include <immintrin.h>
#define PYLLMC_TARGET(isa) __attribute__((target(isa)))
#endif

namespace pyllmc {
namespace {

constexpr int64_t kBlockUnits = 64;
constexpr int64_t kMaxTile = 12 * 32;

// ---- tiles --------------------------------------------------------------------------------------

// Registers of a width that the instruction set has: GCC 12 keeps wider vectors in memory.
struct Lanes4 {
  static constexpr int kCount = 4;
  typedef float Float __attribute__((vector_size(16)));
  typedef int32_t Int __attribute__((vector_size(16)));
};
struct Lanes8 {
  static constexpr int kCount = 8;
  typedef float Float __attribute__((vector_size(32)));
  typedef int32_t Int __attribute__((vector_size(32)));
};
struct Lanes16 {
  static constexpr int kCount = 16;
  typedef float Float __attribute__((vector_size(64)));
  typedef int32_t Int __attribute__((vector_size(64)));
};

template <class To, class From>
PYLLMC_INLINE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

struct MultiplyFp32 {
  template <class Lanes>
  static PYLLMC_INLINE_MEMBER typename Lanes::Float add(typename Lanes::Float sum, Unit a,
                                                        typename Lanes::Float b) {
    return sum + bits_as<float>(a) * b;
  }
};

// Two bf16 products a unit, for processors without the instruction. The halves of a unit become
// fp32 by moving them into place.
struct MultiplyBf16Plain {
  template <class Lanes>
  static PYLLMC_INLINE_MEMBER typename Lanes::Float add(typename Lanes::Float sum, Unit a,
                                                        typename Lanes::Float b) {
    using Float = typename Lanes::Float;
    const auto bits = bits_as<typename Lanes::Int>(b);
    const auto low = bits_as<Float>(bits << 16);
    const auto high = bits_as<Float>(bits & static_cast<int32_t>(0xffff0000u));
    return (sum + bits_as<float>(a & 0xffff0000u) * high) + bits_as<float>(a << 16) * low;
  }
};

template <class Multiply, class Lanes, int kRows, int kVectors>
PYLLMC_INLINE void tile_body(int64_t begin, int64_t end, const Unit* a, const Unit* b, float* c,
                             int64_t ldc, bool accumulate) {
  using Float = typename Lanes::Float;
  constexpr int kCols = kVectors * Lanes::kCount;
  Float sums[kRows][kVectors];
  for (auto& row : sums) {
    for (auto& sum : row) sum = Float{};
  }
  for (int64_t unit = begin; unit < end;) {
    const int64_t stop = std::min(end, (unit / kBlockUnits + 1) * kBlockUnits);
    const Unit* block = a + unit / kBlockUnits * (kRows * kBlockUnits) + unit % kBlockUnits;
    for (; unit < stop; ++unit, ++block, b += kCols) {
      Float right[kVectors];
      for (int j = 0; j < kVectors; ++j) {
        std::memcpy(&right[j], b + j * Lanes::kCount, sizeof right[j]);
      }
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          sums[i][j] = Multiply::template add<Lanes>(sums[i][j], block[i * kBlockUnits], right[j]);
        }
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* at = c + i * ldc + j * Lanes::kCount;
      Float before{};
      if (accumulate) std::memcpy(&before, at, sizeof before);
      const Float value = accumulate ? before + sums[i][j] : sums[i][j];
      std::memcpy(at, &value, sizeof value);
    }
  }
}

#define PYLLMC_TILE(NAME, ATTRIBUTE, MULTIPLY, LANES, ROWS, VECTORS)                      \
  ATTRIBUTE void NAME(int64_t begin, int64_t end, const Unit* a, const Unit* b, float* c, \
                      int64_t ldc, bool accumulate) {                                     \
    tile_body<MULTIPLY, LANES, ROWS, VECTORS>(begin, end, a, b, c, ldc, accumulate);      \
  }

PYLLMC_TILE(tile_plain_fp32, , MultiplyFp32, Lanes4, 2, 4)
PYLLMC_TILE(tile_plain_bf16, , MultiplyBf16Plain, Lanes4, 2, 4)
#ifdef __x86_64__
PYLLMC_TILE(tile_avx2_fp32, PYLLMC_TARGET("arch=x86-64-v3"), MultiplyFp32, Lanes8, 6, 2)
PYLLMC_TILE(tile_avx2_bf16, PYLLMC_TARGET("arch=x86-64-v3"), MultiplyBf16Plain, Lanes8, 4, 2)
PYLLMC_TILE(tile_avx512_fp32, PYLLMC_TARGET("arch=x86-64-v4"), MultiplyFp32, Lanes16, 12, 2)
PYLLMC_TILE(tile_avx512_bf16, PYLLMC_TARGET("arch=x86-64-v4"), MultiplyBf16Plain, Lanes16, 8, 1)

// vdpbf16ps. Written out: an inlined helper cannot take the instruction's target with it.
PYLLMC_TARGET("arch=x86-64-v4,avx512bf16")
void tile_avx512_dpbf16(int64_t begin, int64_t end, const Unit* a, const Unit* b, float* c,
                        int64_t ldc, bool accumulate) {
  constexpr int kRows = 12, kVectors = 2, kCols = 32;
  __m512 sums[kRows][kVectors];
  for (auto& row : sums) {
    for (auto& sum : row) sum = _mm512_setzero_ps();
  }
  for (int64_t unit = begin; unit < end;) {
    const int64_t stop = std::min(end, (unit / kBlockUnits + 1) * kBlockUnits);
    const Unit* block = a + unit / kBlockUnits * (kRows * kBlockUnits) + unit % kBlockUnits;
    for (; unit < stop; ++unit, ++block, b += kCols) {
      const auto right0 = (__m512bh)_mm512_loadu_si512(b);
      const auto right1 = (__m512bh)_mm512_loadu_si512(b + kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) {
        const auto left = (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(block[i * kBlockUnits]));
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], left, right0);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], left, right1);
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* at = c + i * ldc + j * kLanes;
      _mm512_storeu_ps(at,
                       accumulate ? _mm512_add_ps(_mm512_loadu_ps(at), sums[i][j]) : sums[i][j]);
    }
  }
}
#endif

// ---- packing ------------------------------------------------------------------------------------

// As bf16_from_float, sixteen at a time; the result in the upper halves, the lower ones 0.
PYLLMC_INLINE i32x16 round_to_bf16(f32x16 value) {
  i32x16 bits;
  std::memcpy(&bits, &value, sizeof bits);
  const i32x16 rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const i32x16 quiet = bits | 0x00400000;
  return (value == value ? rounded : quiet) & static_cast<int32_t>(0xffff0000u);
}

PYLLMC_INLINE Unit pair_of(float low, float high) {
  return static_cast<Unit>(bf16_from_float(low)) | static_cast<Unit>(bf16_from_float(high)) << 16;
}

// out[i] = (source[2 i], source[2 i + 1]) for `count` values, an odd one padded with 0.
PYLLMC_SIMD void pair_neighbours(const float* source, int64_t count, Unit* out) {
  int64_t i = 0;
  for (; 2 * i + 2 * kLanes <= count; i += kLanes) {
    const f32x16 first = load16(source + 2 * i), second = load16(source + 2 * i + kLanes);
    const i32x16 a = round_to_bf16(first), b = round_to_bf16(second);
    const i32x16 even =
        __builtin_shuffle(a, b, i32x16{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
    const i32x16 odd =
        __builtin_shuffle(a, b, i32x16{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31});
    const i32x16 pairs = ((even >> 16) & 0xffff) | odd;
    std::memcpy(out + i, &pairs, sizeof pairs);
  }
  for (; 2 * i < count; ++i) {
    out[i] = pair_of(source[2 * i], 2 * i + 1 < count ? source[2 * i + 1] : 0.0f);
  }
}

// out[j] = (even[j], odd[j]) for a row of 16 n columns.
PYLLMC_SIMD void pair_rows(const float* even, const float* odd, int64_t cols, Unit* out) {
  for (int64_t j = 0; j < cols; j += kLanes) {
    const i32x16 low = round_to_bf16(load16(even + j)), high = round_to_bf16(load16(odd + j));
    const i32x16 pairs = ((low >> 16) & 0xffff) | high;
    std::memcpy(out + j, &pairs, sizeof pairs);
  }
}

int64_t round_up(int64_t value, int64_t step) { return ceil_div(value, step) * step; }

}  // namespace

PYLLMC_SIMD void transpose(const float* source, int64_t ld, int64_t rows, int64_t cols, float* out,
                           int64_t out_ld) {
  typedef float f32x4 __attribute__((vector_size(16)));
  typedef int32_t i32x4 __attribute__((vector_size(16)));
  const int64_t whole_rows = rows / 4 * 4, whole_cols = cols / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    const float* s = source + r * ld;
    for (int64_t c = 0; c < whole_cols; c += 4) {
      f32x4 v[4];
      for (int i = 0; i < 4; ++i) std::memcpy(&v[i], s + i * ld + c, sizeof v[i]);
      const f32x4 a = __builtin_shuffle(v[0], v[1], i32x4{0, 4, 1, 5});
      const f32x4 b = __builtin_shuffle(v[0], v[1], i32x4{2, 6, 3, 7});
      const f32x4 d = __builtin_shuffle(v[2], v[3], i32x4{0, 4, 1, 5});
      const f32x4 e = __builtin_shuffle(v[2], v[3], i32x4{2, 6, 3, 7});
      const f32x4 columns[4] = {
          __builtin_shuffle(a, d, i32x4{0, 1, 4, 5}), __builtin_shuffle(a, d, i32x4{2, 3, 6, 7}),
          __builtin_shuffle(b, e, i32x4{0, 1, 4, 5}), __builtin_shuffle(b, e, i32x4{2, 3, 6, 7})};
      for (int i = 0; i < 4; ++i) {
        std::memcpy(out + (c + i) * out_ld + r, &columns[i], sizeof columns[i]);
      }
    }
    for (int64_t c = whole_cols; c < cols; ++c) {
      for (int64_t i = 0; i < 4; ++i) out[c * out_ld + r + i] = s[i * ld + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) out[c * out_ld + r] = source[r * ld + c];
  }
}

PanelEngine PanelEngine::choose(Precision precision) {
  const bool bf16 = precision == Precision::bf16;
#ifdef __x86_64__
  const char* asked = std::getenv("PYLLMC_ISA");
  const std::string isa = asked ? asked : "";
  const bool avx2 = isa != "plain" && __builtin_cpu_supports("avx2") &&
                    __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && isa != "avx2" && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
  if (avx512 && bf16 && isa != "avx512" && __builtin_cpu_supports("avx512bf16")) {
    return {precision, "avx512-bf16", 12, 32, tile_avx512_dpbf16};
  }
  if (avx512 && bf16) return {precision, "avx512", 8, 16, tile_avx512_bf16};
  if (avx512) return {precision, "avx512", 12, 32, tile_avx512_fp32};
  if (avx2 && bf16) return {precision, "avx2", 4, 16, tile_avx2_bf16};
  if (avx2) return {precision, "avx2", 6, 16, tile_avx2_fp32};
#endif
  return {precision, "plain", 2, 16, bf16 ? tile_plain_bf16 : tile_plain_fp32};
}

const PanelEngine& PanelEngine::get(Precision precision) {
  static const PanelEngine fp32 = choose(Precision::fp32), bf16 = choose(Precision::bf16);
  return precision == Precision::bf16 ? bf16 : fp32;
}

int64_t PanelEngine::a_panel_units(int64_t k) const {
  return round_up(units(k), kBlockUnits) * tile_rows_;
}
int64_t PanelEngine::a_units(int64_t rows, int64_t k) const {
  return ceil_div(rows, tile_rows_) * a_panel_units(k);
}
int64_t PanelEngine::b_units(int64_t k, int64_t cols) const {
  return ceil_div(cols, tile_cols_) * b_panel_units(k);
}

// Rows [0, rows) of one panel, K values each, from unit `first_unit` of the panel on.
void PanelEngine::pack_a_rows(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* panel,
                              int64_t first_unit) const {
  const int64_t per_unit = precision_ == Precision::bf16 ? 2 : 1;
  const int64_t count = units(k);
  for (int64_t unit = 0; unit < count;) {
    const int64_t at = first_unit + unit;
    const int64_t n = std::min(count - unit, kBlockUnits - at % kBlockUnits);
    Unit* block = panel + at / kBlockUnits * tile_rows_ * kBlockUnits + at % kBlockUnits;
    for (int64_t row = 0; row < tile_rows_; ++row) {
      Unit* out = block + row * kBlockUnits;
      const float* in = source + row * ld + unit * per_unit;
      if (row >= rows) {
        std::memset(out, 0, static_cast<size_t>(n) * sizeof(Unit));
      } else if (precision_ == Precision::fp32) {
        std::memcpy(out, in, static_cast<size_t>(n) * sizeof(Unit));
      } else {
        pair_neighbours(in, std::min(2 * n, k - unit * 2), out);
      }
    }
    unit += n;
  }
}

void PanelEngine::pack_a(const float* source, int64_t ld, int64_t rows, int64_t k,
                         Unit* out) const {
  for (int64_t row = 0; row < rows; row += tile_rows_, out += a_panel_units(k)) {
    pack_a_rows(source + row * ld, ld, std::min(tile_rows_, rows - row), k, out, 0);
  }
}

void PanelEngine::pack_a_transposed(const float* source, int64_t ld, int64_t rows, int64_t k,
                                    Unit* out) const {
  constexpr int64_t kDepth = 2 * kBlockUnits;  // one block of bf16 pairs, two of fp32
  float turned[12 * kDepth];
  for (int64_t row = 0; row < rows; row += tile_rows_, out += a_panel_units(k)) {
    const int64_t n = std::min(tile_rows_, rows - row);
    for (int64_t depth = 0; depth < k; depth += kDepth) {
      const int64_t d = std::min(kDepth, k - depth);
      transpose(source + depth * ld + row, ld, d, n, turned, kDepth);
      pack_a_rows(turned, kDepth, n, d, out, units(depth));
    }
  }
}

void PanelEngine::pack_b(const float* source, int64_t ld, int64_t k, int64_t cols,
                         Unit* out) const {
  const int64_t width = tile_cols_;
  alignas(64) float even[32], odd[32];
  for (int64_t col = 0; col < cols; col += width) {
    const int64_t n = std::min(width, cols - col);
    const auto bytes = static_cast<size_t>(n) * sizeof(float);
    const float* in = source + col;
    if (precision_ == Precision::fp32) {
      for (int64_t i = 0; i < k; ++i, out += width) {
        std::memcpy(out, in + i * ld, bytes);
        std::memset(out + n, 0, static_cast<size_t>(width - n) * sizeof(Unit));
      }
      continue;
    }
    std::fill(even, even + width, 0.0f);
    std::fill(odd, odd + width, 0.0f);
    for (int64_t i = 0; i < k; i += 2, out += width) {
      std::memcpy(even, in + i * ld, bytes);
      if (i + 1 < k) {
        std::memcpy(odd, in + (i + 1) * ld, bytes);
      } else {
        std::fill(odd, odd + width, 0.0f);
      }
      pair_rows(even, odd, width, out);
    }
  }
}

void PanelEngine::pack_b_transposed(const float* source, int64_t ld, int64_t k, int64_t cols,
                                    Unit* out) const {
  constexpr int64_t kDepth = 64;
  alignas(64) float turned[kDepth * 32];
  const int64_t width = tile_cols_;
  for (int64_t col = 0; col < cols; col += width) {
    const int64_t n = std::min(width, cols - col);
    if (n < width) std::fill(turned, turned + kDepth * width, 0.0f);
    for (int64_t depth = 0; depth < k; depth += kDepth) {
      const int64_t d = std::min(kDepth, k - depth);
      transpose(source + col * ld + depth, ld, n, d, turned, width);
      pack_b(turned, width, d, width, out);
      out += units(d) * width;
    }
  }
}

void PanelEngine::multiply(const Unit* a, int64_t a_panel, int64_t rows, int64_t begin, int64_t end,
                           const Unit* b, int64_t cols, float* c, int64_t ldc,
                           bool accumulate) const {
  for (int64_t row = 0; row < rows; row += tile_rows_, a += a_panel, c += tile_rows_ * ldc) {
    const int64_t m = std::min(tile_rows_, rows - row);
    if (m == tile_rows_ && cols == tile_cols_) {
      tile_(begin, end, a, b, c, ldc, accumulate);
      continue;
    }
    alignas(64) float part[kMaxTile];
    tile_(begin, end, a, b, part, tile_cols_, false);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const float value = part[i * tile_cols_ + j];
        c[i * ldc + j] = accumulate ? c[i * ldc + j] + value : value;
      }
    }
  }
}

}  // namespace pyllmc
