// What a step reads and reports, in memory that a kernel can reach, so that a whole step can be one
// graph of kernels without the host in between. The host writes all of it before a step and reads
// it after; what changes within a step is written by the classifier (loss) and by AdamW.
#pragma once

#include "core/loss.h"

namespace pyllmc {

struct StepState {
  int64_t step = 0;  // updates done before this one
  float learning_rate = 0;
  float bias_correction1 = 1;  // 1 - beta1^(step+1)
  float bias_correction2 = 1;  // 1 - beta2^(step+1)
  float loss_scale = 0;        // of the gradients: 1 / targets of the update
  Loss loss{};                 // of the update's batches so far
  float gradient_scale = 1;    // from clipping
  int32_t not_finite = 0;      // set by a loss or gradient that is not finite: no update happens
  double gradient_norm = 0;
};

}  // namespace pyllmc
