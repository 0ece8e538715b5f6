// parallel_for hands out item numbers. Which numbers a sum adds up, and in which order, follows
// from the problem's shape; the number of threads may at most decide how many whole results an item
// is. Every item writes its own memory, so a result's bits are the same for any number of threads.
#pragma once

#include <omp.h>

#include <cstdint>

namespace pyllmc {

// Calls work(item, thread) for item in [0, items). `work` must not throw.
template <class Work>
void parallel_for(int threads, int64_t items, const Work& work) {
  if (threads <= 1 || items <= 1) {
    for (int64_t item = 0; item < items; ++item) work(item, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t item = 0; item < items; ++item) work(item, omp_get_thread_num());
}

// Processors that this process may run on.
inline int available_threads() { return omp_get_num_procs(); }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace pyllmc
