// The tiles of PanelEngine, one set an instruction set, and the choice among them.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/panels.h"
#include "core/processor.h"
#include "core/simd.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace pyllmc {
namespace {

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
    // The lines of C arrive while the sums are made.
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

// Tiles of any number of rows and of vectors.
#define PYLLMC_TILES(NAME, ATTRIBUTE, MULTIPLY, LANES)                                           \
  template <int kRows, int kVectors>                                                             \
  ATTRIBUTE void NAME(int64_t begin, int64_t end, const Unit* a, int64_t a_block, const Unit* b, \
                      int64_t ldb, float* c, int64_t ldc, bool accumulate) {                     \
    tile_body<MULTIPLY, LANES, kRows, kVectors>(begin, end, a, a_block, b, ldb, c, ldc,          \
                                                accumulate);                                     \
  }

PYLLMC_TILES(tile_plain_fp32, , MultiplyFp32, Lanes4)
PYLLMC_TILES(tile_plain_bf16, , MultiplyBf16Plain, Lanes4)
#ifdef __x86_64__
PYLLMC_TILES(tile_avx2_fp32, PYLLMC_AVX2, MultiplyFp32, Lanes8)
PYLLMC_TILES(tile_avx2_bf16, PYLLMC_AVX2, MultiplyBf16Plain, Lanes8)
PYLLMC_TILES(tile_avx512_fp32, PYLLMC_AVX512, MultiplyFp32, Lanes16)
PYLLMC_TILES(tile_avx512_bf16, PYLLMC_AVX512, MultiplyBf16Plain, Lanes16)

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

template <int kRows, int kThird>
constexpr auto kHeight = static_cast<int>(PanelEngine::Tile::height(kRows, kThird));

// A tile of ROWS and of VECTORS that hold COLS.
#define PYLLMC_TILE(NAME, ROWS, VECTORS, COLS)                                              \
  {                                                                                         \
    ROWS, COLS, {                                                                           \
      NAME<kHeight<ROWS, 0>, VECTORS>, NAME<kHeight<ROWS, 1>, VECTORS>, NAME<ROWS, VECTORS> \
    }                                                                                       \
  }

}  // namespace

PanelEngine PanelEngine::choose(Precision precision) {
  const bool bf16 = precision == Precision::bf16;
  const char* asked = std::getenv("PYLLMC_ISA");
  const std::string isa = asked ? asked : "";
  if (!isa.empty() && isa != "avx512" && isa != "avx2" && isa != "plain") {
    throw UsageError(message("PYLLMC_ISA is '", isa, "': set it to avx512, avx2 or plain, or ",
                             "unset it for the fastest that this processor runs"));
  }
#ifdef __x86_64__
  const bool avx2 = isa != "plain" && has_avx2();
  const bool avx512 = avx2 && isa != "avx2" && has_avx512();
  if (avx512 && bf16 && isa != "avx512" && __builtin_cpu_supports("avx512bf16")) {
    return {precision, "avx512-bf16", PYLLMC_TILE(tile_avx512_dpbf16, 12, 2, 32),
            PYLLMC_TILE(tile_avx512_dpbf16, 24, 1, 16)};
  }
  const auto only = [&](const char* name, const Tile& tile) {
    return PanelEngine(precision, name, tile, tile);
  };
  if (avx512 && bf16) return only("avx512", PYLLMC_TILE(tile_avx512_bf16, 8, 1, 16));
  if (avx512) {
    return {precision, "avx512", PYLLMC_TILE(tile_avx512_fp32, 12, 2, 32),
            PYLLMC_TILE(tile_avx512_fp32, 24, 1, 16)};
  }
  if (avx2 && bf16) return only("avx2", PYLLMC_TILE(tile_avx2_bf16, 4, 2, 16));
  if (avx2) return only("avx2", PYLLMC_TILE(tile_avx2_fp32, 6, 2, 16));
#endif
  const Tile plain = bf16 ? Tile PYLLMC_TILE(tile_plain_bf16, 2, 4, 16)
                          : Tile PYLLMC_TILE(tile_plain_fp32, 2, 4, 16);
  return {precision, "plain", plain, plain};
}

const PanelEngine& PanelEngine::get(Precision precision) {
  static const PanelEngine fp32 = choose(Precision::fp32), bf16 = choose(Precision::bf16);
  return precision == Precision::bf16 ? bf16 : fp32;
}

}  // namespace pyllmc
