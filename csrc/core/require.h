// Checks of numbers that come from outside, before anything is made of them.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace pyllmc {

// Throws UsageError, naming the setting, for a value outside [least, most].
inline void require_between(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  throw UsageError(message(name, " is ", value, ", it must be ", least,
                           most == least + 1 ? " or " : " to ", most));
}

// Files record seeds as 32 bits.
inline void require_seed(const char* name, int64_t seed) {
  require_between(name, seed, 0, UINT32_MAX);
}

constexpr int64_t kMostThreads = 4096;
inline void require_threads(int64_t threads) {
  require_between("threads", threads, 1, kMostThreads);
}

}  // namespace pyllmc
