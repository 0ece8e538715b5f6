// Cuts a block of floats, as a Context's scratch, into pieces that begin on cache lines of their
// own. Without a block it counts only: floats() is then what the block has to have.
#pragma once

#include "core/simd.h"
#include "core/threads.h"

namespace pyllmc {

class Scratch {
 public:
  explicit Scratch(float* block) : block_(block) {}
  // `count` floats or other elements; null without a block.
  template <class T = float>
  T* take(int64_t count) {
    static_assert(sizeof(T) % sizeof(float) == 0);
    float* start = block_ ? block_ + floats_ : nullptr;
    floats_ += round(count * static_cast<int64_t>(sizeof(T) / sizeof(float)));
    return reinterpret_cast<T*>(start);
  }
  int64_t floats() const { return floats_; }
  static int64_t round(int64_t count) { return ceil_div(count, kLanes) * kLanes; }

 private:
  float* block_;
  int64_t floats_ = 0;
};

}  // namespace pyllmc
