// The loss of a batch as a sum and a count, so that parts can be added up before the mean is taken.
#pragma once

#include <cstdint>

namespace pyllmc {

struct Loss {
  double sum = 0;
  int64_t count = 0;  // targets that were not ignored
  double mean() const { return count ? sum / static_cast<double>(count) : 0; }
};

}  // namespace pyllmc
