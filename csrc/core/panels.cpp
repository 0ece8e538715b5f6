#include "core/panels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/bf16.h"
#include "core/error.h"
#include "core/simd.h"
#include "core/threads.h"

#ifdef __x86_64__
#include <immintrin.h>
#define PYLLMC_TARGET(isa) __attribute__((target(isa)))
#endif

namespace pyllmc {
namespace {

constexpr int64_t kMaxTile = 24 * 16, kMaxWidth = 32;

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
PYLLMC_INLINE void tile_body(int64_t begin, int64_t end, const Unit* a, int64_t a_block,
                             const Unit* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  using Float = typename Lanes::Float;
  Float sums[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    // Asked for now, the lines of C are there when the sums are.
    __builtin_prefetch(c + i * ldc, 1);
    if (kVectors * Lanes::kCount > 16) __builtin_prefetch(c + i * ldc + 16, 1);
    for (auto& sum : sums[i]) sum = Float{};
  }
  for (int64_t unit = begin; unit < end;) {
    const int64_t stop = std::min(end, (unit / kBlockUnits + 1) * kBlockUnits);
    const Unit* block = a + unit / kBlockUnits * a_block + unit % kBlockUnits;
    for (; unit < stop; ++unit, ++block, b += ldb) {
      Float right[kVectors];
      for (int j = 0; j < kVectors; ++j) {
        std::memcpy(&right[j], b + j * Lanes::kCount, sizeof right[j]);
      }
#pragma GCC unroll 24
      for (int i = 0; i < kRows; ++i) {
        const Unit left = block[i * kBlockUnits];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          sums[i][j] = Multiply::template add<Lanes>(sums[i][j], left, right[j]);
        }
      }
    }
  }
#pragma GCC unroll 24
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

#define PYLLMC_TILE(NAME, ATTRIBUTE, MULTIPLY, LANES, ROWS, VECTORS)                               \
  ATTRIBUTE void NAME(int64_t begin, int64_t end, const Unit* a, int64_t a_block, const Unit* b,   \
                      int64_t ldb, float* c, int64_t ldc, bool accumulate) {                       \
    tile_body<MULTIPLY, LANES, ROWS, VECTORS>(begin, end, a, a_block, b, ldb, c, ldc, accumulate); \
  }

PYLLMC_TILE(tile_plain_fp32, , MultiplyFp32, Lanes4, 2, 4)
PYLLMC_TILE(tile_plain_bf16, , MultiplyBf16Plain, Lanes4, 2, 4)
#ifdef __x86_64__
#define PYLLMC_AVX2 PYLLMC_TARGET("arch=x86-64-v3")
#define PYLLMC_AVX512 PYLLMC_TARGET("arch=x86-64-v4")
PYLLMC_TILE(tile_avx2_fp32, PYLLMC_AVX2, MultiplyFp32, Lanes8, 6, 2)
PYLLMC_TILE(tile_avx2_bf16, PYLLMC_AVX2, MultiplyBf16Plain, Lanes8, 4, 2)
PYLLMC_TILE(tile_avx512_fp32, PYLLMC_AVX512, MultiplyFp32, Lanes16, 12, 2)
PYLLMC_TILE(tile_avx512_fp32_narrow, PYLLMC_AVX512, MultiplyFp32, Lanes16, 24, 1)
PYLLMC_TILE(tile_avx512_bf16, PYLLMC_AVX512, MultiplyBf16Plain, Lanes16, 8, 1)

// vdpbf16ps. Written out: an inlined helper cannot take the instruction's target with it.
template <int kRows, int kVectors>
PYLLMC_TARGET("arch=x86-64-v4,avx512bf16")
void tile_avx512_dpbf16(int64_t begin, int64_t end, const Unit* a, int64_t a_block, const Unit* b,
                        int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  __m512 sums[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      __builtin_prefetch(c + i * ldc + j * kLanes, 1);
      sums[i][j] = _mm512_setzero_ps();
    }
  }
  for (int64_t unit = begin; unit < end;) {
    const int64_t stop = std::min(end, (unit / kBlockUnits + 1) * kBlockUnits);
    const Unit* block = a + unit / kBlockUnits * a_block + unit % kBlockUnits;
    for (; unit < stop; ++unit, ++block, b += ldb) {
      __m512bh right[kVectors];
      for (int j = 0; j < kVectors; ++j) right[j] = (__m512bh)_mm512_loadu_si512(b + j * kLanes);
#pragma GCC unroll 24
      for (int i = 0; i < kRows; ++i) {
        const auto left = (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(block[i * kBlockUnits]));
        for (int j = 0; j < kVectors; ++j)
          sums[i][j] = _mm512_dpbf16_ps(sums[i][j], left, right[j]);
      }
    }
  }
#pragma GCC unroll 24
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

// Columns [0, n) of k rows, padded with 0 to `width`, which is 16 or 32; sums (n) or null.
template <int kVectors>
PYLLMC_INLINE void pack_columns_body(const float* source, int64_t ld, int64_t k, float* out,
                                     float* sums) {
  f32x16 total[kVectors] = {};
  for (int64_t i = 0; i < k; ++i, source += ld, out += kVectors * kLanes) {
    for (int j = 0; j < kVectors; ++j) {
      // The next rows are far away where ld is long: asked for early.
      __builtin_prefetch(source + 16 * ld + j * kLanes);
      const f32x16 value = load16(source + j * kLanes);
      store16(out + j * kLanes, value);
      total[j] += value;
    }
  }
  if (!sums) return;
  for (int j = 0; j < kVectors; ++j) {
    store16(sums + j * kLanes, load16(sums + j * kLanes) + total[j]);
  }
}

PYLLMC_SIMD void pack_columns(const float* source, int64_t ld, int64_t k, int64_t n, int64_t width,
                              float* out, float* sums) {
  if (n == width) {
    return width == kMaxWidth ? pack_columns_body<2>(source, ld, k, out, sums)
                              : pack_columns_body<1>(source, ld, k, out, sums);
  }
  for (int64_t i = 0; i < k; ++i, source += ld, out += width) {
    std::memcpy(out, source, static_cast<size_t>(n) * sizeof(float));
    std::memset(out + n, 0, static_cast<size_t>(width - n) * sizeof(float));
    for (int64_t j = 0; sums && j < n; ++j) sums[j] += source[j];
  }
}

PYLLMC_SIMD void pack_columns_bf16(const float* source, int64_t ld, int64_t k, int64_t n,
                                   int64_t width, Unit* out, float* sums) {
  alignas(64) float even[kMaxWidth] = {}, odd[kMaxWidth] = {}, total[kMaxWidth] = {};
  const auto bytes = static_cast<size_t>(n) * sizeof(float);
  for (int64_t i = 0; i < k; i += 2, source += 2 * ld, out += width) {
    std::memcpy(even, source, bytes);
    if (i + 1 < k) {
      std::memcpy(odd, source + ld, bytes);
    } else {
      std::fill(odd, odd + width, 0.0f);
    }
    for (int64_t j = 0; j < width; j += kLanes) {
      const f32x16 first = load16(even + j), second = load16(odd + j);
      const i32x16 low = round_to_bf16(first), high = round_to_bf16(second);
      const i32x16 pairs = ((low >> 16) & 0xffff) | high;
      std::memcpy(out + j, &pairs, sizeof pairs);
      if (sums) store16(total + j, (load16(total + j) + first) + second);
    }
  }
  for (int64_t j = 0; sums && j < n; ++j) sums[j] += total[j];
}

// out (cols, 16) = transpose of 16 rows of source; cols is a multiple of 4. A quarter of a register
// is four entries of one row: after a 4 x 4 transpose in every quarter, a register is a column.
#ifdef __x86_64__
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512cd");
}

PYLLMC_AVX512 void transpose_16_rows(const float* source, int64_t ld, int64_t cols, float* out,
                                     int64_t out_ld) {
  constexpr i32x16 low = {0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29};
  constexpr i32x16 high = {2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31};
  constexpr i32x16 even = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
  constexpr i32x16 odd = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
  for (int64_t c = 0; c < cols; c += 4, source += 4, out += 4 * out_ld) {
    f32x16 v[4];
    for (int i = 0; i < 4; ++i) {
      const float* row = source + i * ld;
      __m512 quarters = _mm512_castps128_ps512(_mm_loadu_ps(row));
      quarters = _mm512_insertf32x4(quarters, _mm_loadu_ps(row + 4 * ld), 1);
      quarters = _mm512_insertf32x4(quarters, _mm_loadu_ps(row + 8 * ld), 2);
      v[i] = (f32x16)_mm512_insertf32x4(quarters, _mm_loadu_ps(row + 12 * ld), 3);
    }
    const f32x16 a = __builtin_shuffle(v[0], v[1], low), b = __builtin_shuffle(v[0], v[1], high);
    const f32x16 d = __builtin_shuffle(v[2], v[3], low), e = __builtin_shuffle(v[2], v[3], high);
    store16(out, __builtin_shuffle(a, d, even));
    store16(out + out_ld, __builtin_shuffle(a, d, odd));
    store16(out + 2 * out_ld, __builtin_shuffle(b, e, even));
    store16(out + 3 * out_ld, __builtin_shuffle(b, e, odd));
  }
}
#endif

void transpose_4_rows(const float* source, int64_t ld, int64_t cols, float* out, int64_t out_ld) {
  typedef float f32x4 __attribute__((vector_size(16)));
  typedef int32_t i32x4 __attribute__((vector_size(16)));
  for (int64_t c = 0; c < cols; c += 4, source += 4, out += 4 * out_ld) {
    f32x4 v[4];
    for (int i = 0; i < 4; ++i) std::memcpy(&v[i], source + i * ld, sizeof v[i]);
    const f32x4 a = __builtin_shuffle(v[0], v[1], i32x4{0, 4, 1, 5});
    const f32x4 b = __builtin_shuffle(v[0], v[1], i32x4{2, 6, 3, 7});
    const f32x4 d = __builtin_shuffle(v[2], v[3], i32x4{0, 4, 1, 5});
    const f32x4 e = __builtin_shuffle(v[2], v[3], i32x4{2, 6, 3, 7});
    const f32x4 columns[4] = {
        __builtin_shuffle(a, d, i32x4{0, 1, 4, 5}), __builtin_shuffle(a, d, i32x4{2, 3, 6, 7}),
        __builtin_shuffle(b, e, i32x4{0, 1, 4, 5}), __builtin_shuffle(b, e, i32x4{2, 3, 6, 7})};
    for (int i = 0; i < 4; ++i) std::memcpy(out + i * out_ld, &columns[i], sizeof columns[i]);
  }
}

}  // namespace

void transpose(const float* source, int64_t ld, int64_t rows, int64_t cols, float* out,
               int64_t out_ld) {
  const int64_t whole_cols = cols / 4 * 4;
  int64_t r = 0;
#ifdef __x86_64__
  static const bool avx512 = has_avx512();
  for (; avx512 && r + 16 <= rows; r += 16) {
    transpose_16_rows(source + r * ld, ld, whole_cols, out + r, out_ld);
  }
#endif
  for (; r + 4 <= rows; r += 4) {
    transpose_4_rows(source + r * ld, ld, whole_cols, out + r, out_ld);
  }
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t row = c < whole_cols ? r : 0; row < rows; ++row) {
      out[c * out_ld + row] = source[row * ld + c];
    }
  }
}

PanelEngine PanelEngine::choose(Precision precision) {
  const bool bf16 = precision == Precision::bf16;
  const char* asked = std::getenv("PYLLMC_ISA");
  const std::string isa = asked ? asked : "";
  if (!isa.empty() && isa != "avx512" && isa != "avx2" && isa != "plain") {
    throw UsageError(message("PYLLMC_ISA is '", isa, "': set it to avx512, avx2 or plain, or ",
                             "unset it for the fastest that this processor runs"));
  }
#ifdef __x86_64__
  const bool avx2 = isa != "plain" && __builtin_cpu_supports("avx2") &&
                    __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && isa != "avx2" && has_avx512();
  if (avx512 && bf16 && isa != "avx512" && __builtin_cpu_supports("avx512bf16")) {
    return {precision,
            "avx512-bf16",
            {12, 32, tile_avx512_dpbf16<12, 2>},
            {24, 16, tile_avx512_dpbf16<24, 1>}};
  }
  const auto only = [&](const char* name, const Tile& tile) {
    return PanelEngine(precision, name, tile, tile);
  };
  if (avx512 && bf16) return only("avx512", {8, 16, tile_avx512_bf16});
  if (avx512) {
    return {precision, "avx512", {12, 32, tile_avx512_fp32}, {24, 16, tile_avx512_fp32_narrow}};
  }
  if (avx2 && bf16) return only("avx2", {4, 16, tile_avx2_bf16});
  if (avx2) return only("avx2", {6, 16, tile_avx2_fp32});
#endif
  const Tile plain = {2, 16, bf16 ? tile_plain_bf16 : tile_plain_fp32};
  return {precision, "plain", plain, plain};
}

const PanelEngine& PanelEngine::get(Precision precision) {
  static const PanelEngine fp32 = choose(Precision::fp32), bf16 = choose(Precision::bf16);
  return precision == Precision::bf16 ? bf16 : fp32;
}

// A tile's rows of neighbouring blocks fall into different sets of the caches.
int64_t PanelEngine::a_block(int64_t rows) const {
  constexpr int64_t kPage = 4096 / (kBlockUnits * sizeof(Unit));  // rows of 4 KiB
  const int64_t beyond = (rows + kPage - wide_.rows) % kPage;
  return (rows + (beyond ? kPage - beyond : 0)) * kBlockUnits;
}
int64_t PanelEngine::a_units(int64_t rows, int64_t k) const {
  return ceil_div(units(k), kBlockUnits) * a_block(rows) +
         std::max(wide_.rows, narrow_.rows) * kBlockUnits;
}
int64_t PanelEngine::b_units(int64_t k, int64_t cols, const Tile& tile) const {
  return ceil_div(cols, tile.cols) * b_panel_units(k, tile);
}

// One row of A, of K neighbours.
void PanelEngine::pack_row(const float* source, int64_t k, Unit* row, int64_t a_block) const {
  const int64_t depth = precision_ == Precision::bf16 ? 2 * kBlockUnits : kBlockUnits;
  for (int64_t at = 0; at < k; at += depth, row += a_block) {
    const int64_t n = std::min(depth, k - at);
    if (precision_ == Precision::bf16) {
      pair_neighbours(source + at, n, row);
    } else {
      std::memcpy(row, source + at, static_cast<size_t>(n) * sizeof(Unit));
    }
  }
}

// Row by row, as the source lies in memory.
void PanelEngine::pack_a(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out,
                         int64_t a_block) const {
  for (int64_t row = 0; row < rows; ++row) {
    pack_row(source + row * ld, k, out + row * kBlockUnits, a_block);
  }
}

void PanelEngine::pack_a_transposed(const float* source, int64_t ld, int64_t rows, int64_t k,
                                    Unit* out, int64_t a_block) const {
  if (precision_ != Precision::bf16) {
    for (int64_t depth = 0; depth < k; depth += kBlockUnits, out += a_block) {
      transpose(source + depth * ld, ld, std::min(kBlockUnits, k - depth), rows,
                reinterpret_cast<float*>(out), kBlockUnits);
    }
    return;
  }
  constexpr int64_t kRows = 16;                // a line of the source in the cache
  constexpr int64_t kDepth = 2 * kBlockUnits;  // a block of pairs
  float turned[kRows * kDepth];
  for (int64_t depth = 0; depth < k; depth += kDepth, out += a_block) {
    const int64_t d = std::min(kDepth, k - depth);
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t n = std::min(kRows, rows - row);
      transpose(source + depth * ld + row, ld, d, n, turned, kDepth);
      for (int64_t i = 0; i < n; ++i) {
        pack_row(turned + i * kDepth, d, out + (row + i) * kBlockUnits, a_block);
      }
    }
  }
}

void PanelEngine::pack_b(const float* source, int64_t ld, int64_t k, int64_t cols, const Tile& tile,
                         Unit* out, float* sums) const {
  const int64_t width = tile.cols;
  for (int64_t col = 0; col < cols; col += width, out += b_panel_units(k, tile)) {
    const int64_t n = std::min(width, cols - col);
    float* column_sums = sums ? sums + col : nullptr;
    if (precision_ == Precision::bf16) {
      pack_columns_bf16(source + col, ld, k, n, width, out, column_sums);
    } else {
      pack_columns(source + col, ld, k, n, width, reinterpret_cast<float*>(out), column_sums);
    }
  }
}

void PanelEngine::pack_b_transposed(const float* source, int64_t ld, int64_t k, int64_t cols,
                                    const Tile& tile, Unit* out) const {
  constexpr int64_t kDepth = 64;
  alignas(64) float turned[kDepth * kMaxWidth];
  const int64_t width = tile.cols;
  for (int64_t col = 0; col < cols; col += width) {
    const int64_t n = std::min(width, cols - col);
    if (n == width && precision_ != Precision::bf16) {
      transpose(source + col * ld, ld, width, k, reinterpret_cast<float*>(out), width);
      out += k * width;
      continue;
    }
    if (n < width) std::fill(turned, turned + kDepth * width, 0.0f);
    for (int64_t depth = 0; depth < k; depth += kDepth) {
      const int64_t d = std::min(kDepth, k - depth);
      transpose(source + col * ld + depth, ld, n, d, turned, width);
      pack_b(turned, width, d, width, tile, out);
      out += units(d) * width;
    }
  }
}

void PanelEngine::multiply_part(const Tile& tile, const PackedA& a, int64_t begin, int64_t end,
                                const PanelB& b, float* c, int64_t ldc, bool accumulate) const {
  alignas(64) float part[kMaxTile];
  tile.multiply(begin, end, a.units, a.block, b.units, b.ld, part, tile.cols, false);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.cols; ++j) {
      const float value = part[i * tile.cols + j];
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + value : value;
    }
  }
}

}  // namespace pyllmc
