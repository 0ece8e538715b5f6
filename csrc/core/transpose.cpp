#include "core/transpose.h"

#include <cstring>

#include "core/processor.h"
#include "core/simd.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace pyllmc {
namespace {

// out (cols, 16) = transpose of 16 rows of source; cols is a multiple of 4. A quarter of a register
// is four entries of one row: after a 4 x 4 transpose in every quarter, a register is a column.
#ifdef __x86_64__
PYLLMC_AVX512 void transpose_16_rows(const float* source, int64_t ld, int64_t cols, float* out,
                                     int64_t out_ld) {
  for (int64_t c = 0; c < cols; c += 4, source += 4, out += 4 * out_ld) {
    f32x16 v[4];
    for (int i = 0; i < 4; ++i) {
      const float* row = source + i * ld;
      __m512 quarters = _mm512_castps128_ps512(_mm_loadu_ps(row));
      quarters = _mm512_insertf32x4(quarters, _mm_loadu_ps(row + 4 * ld), 1);
      quarters = _mm512_insertf32x4(quarters, _mm_loadu_ps(row + 8 * ld), 2);
      v[i] = (f32x16)_mm512_insertf32x4(quarters, _mm_loadu_ps(row + 12 * ld), 3);
    }
    const f32x16 a = __builtin_shuffle(v[0], v[1], kLowColumns),
                 b = __builtin_shuffle(v[0], v[1], kHighColumns);
    const f32x16 d = __builtin_shuffle(v[2], v[3], kLowColumns),
                 e = __builtin_shuffle(v[2], v[3], kHighColumns);
    store16(out, __builtin_shuffle(a, d, kFirstColumn));
    store16(out + out_ld, __builtin_shuffle(a, d, kSecondColumn));
    store16(out + 2 * out_ld, __builtin_shuffle(b, e, kFirstColumn));
    store16(out + 3 * out_ld, __builtin_shuffle(b, e, kSecondColumn));
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

}  // namespace pyllmc
