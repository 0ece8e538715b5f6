#include "core/panels.h"

#include <algorithm>
#include <cstring>

#include "core/bf16.h"
#include "core/simd.h"
#include "core/threads.h"
#include "core/transpose.h"

namespace pyllmc {
namespace {

constexpr int64_t kMaxTile = 24 * 16, kMaxWidth = 32;

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

// A row of k floats, and of k / 2 pairs, into blocks of 32 units. sums (k) or null: += the row.
PYLLMC_SIMD void pack_rows(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out,
                           int64_t a_block, float* sums) {
  const int64_t whole = k / kBlockUnits * kBlockUnits;
  for (int64_t row = 0; row < rows; ++row, source += ld, out += kBlockUnits) {
    auto* block = reinterpret_cast<float*>(out);
    for (int64_t at = 0; at < whole; at += kBlockUnits, block += a_block) {
      const f32x16 low = load16(source + at), high = load16(source + at + kLanes);
      store16(block, low);
      store16(block + kLanes, high);
      if (!sums) continue;
      store16(sums + at, load16(sums + at) + low);
      store16(sums + at + kLanes, load16(sums + at + kLanes) + high);
    }
    std::memcpy(block, source + whole, static_cast<size_t>(k - whole) * sizeof(float));
    for (int64_t at = whole; sums && at < k; ++at) sums[at] += source[at];
  }
}

PYLLMC_SIMD void pack_rows_bf16(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out,
                                int64_t a_block, float* sums) {
  constexpr int64_t kDepth = 2 * kBlockUnits;
  for (int64_t row = 0; row < rows; ++row, source += ld, out += kBlockUnits) {
    Unit* block = out;
    for (int64_t at = 0; at < k; at += kDepth, block += a_block) {
      pair_neighbours(source + at, std::min(kDepth, k - at), block);
    }
    for (int64_t at = 0; sums && at < k; ++at) sums[at] += source[at];
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

}  // namespace

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

// Row by row, as the source lies in memory.
void PanelEngine::pack_a(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out,
                         int64_t a_block, float* sums) const {
  precision_ == Precision::bf16 ? pack_rows_bf16(source, ld, rows, k, out, a_block, sums)
                                : pack_rows(source, ld, rows, k, out, a_block, sums);
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
      pack_rows_bf16(turned, kDepth, n, d, out + row * kBlockUnits, a_block, nullptr);
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
  tile.multiply[tile.third_of(a.rows)](begin, end, a.units, a.block, b.units, b.ld, part, tile.cols,
                                       false);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.cols; ++j) {
      const float value = part[i * tile.cols + j];
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + value : value;
    }
  }
}

}  // namespace pyllmc
