// Turning a matrix over, as packing does with every second operand.
#pragma once

#include <cstdint>

namespace pyllmc {

// out (cols, rows), leading dimension out_ld, = transpose of source (rows, cols).
void transpose(const float* source, int64_t ld, int64_t rows, int64_t cols, float* out,
               int64_t out_ld);

}  // namespace pyllmc
