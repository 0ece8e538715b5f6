// The learning rate of an update: linear warm-up, then constant or a cosine to its end.
#pragma once

#include <cstdint>
#include <optional>

namespace pyllmc {

struct Schedule {
  double learning_rate = 3e-4;
  int64_t warmup = 0;              // updates
  std::optional<double> min_rate;  // set: cosine from learning_rate to this at `steps`
  int64_t steps = 0;               // of the run

  // Of update `step`, counted from 0: lr (step + 1) / warmup while step < warmup, then
  // min + (lr - min) (1 + cos(pi (step - warmup) / (steps - warmup))) / 2 (Loshchilov & Hutter
  // 2017).
  double at(int64_t step) const;
};

}  // namespace pyllmc
