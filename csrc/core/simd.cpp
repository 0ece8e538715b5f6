#include "core/simd.h"

namespace pyllmc {

PYLLMC_SIMD void add_row(float* out, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += values[i];
}

}  // namespace pyllmc
