#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pyllmc {

double Schedule::at(int64_t step) const {
  if (step < warmup) {
    return learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  if (!min_rate) return learning_rate;
  const double length = static_cast<double>(std::max<int64_t>(1, steps - warmup));
  const double done = std::min(1.0, static_cast<double>(step - warmup) / length);
  return *min_rate + 0.5 * (learning_rate - *min_rate) * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace pyllmc
