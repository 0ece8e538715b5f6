// What an update reads: kept in memory that a kernel can read, so that a whole step can be one
// graph of kernels without the host in between.
#pragma once

#include <cstdint>

namespace pyllmc {

struct StepState {
  int64_t step = 0;  // updates done before this one
  float learning_rate = 0;
  float bias_correction1 = 1;  // 1 - beta1^(step+1)
  float bias_correction2 = 1;  // 1 - beta2^(step+1)
  float gradient_scale = 1;    // from clipping
  double gradient_norm = 0;
  int32_t not_finite = 0;  // set by a loss or gradient that is not finite: no update happens
};

}  // namespace pyllmc
