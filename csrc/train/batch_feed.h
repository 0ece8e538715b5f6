// Batches on their way to a GPU: page-locked copies on the host, from which they are sent without
// waiting, and the places in the device's memory where a graph of kernels expects them.
#pragma once

#include <vector>

#include "core/device.h"
#include "models/model.h"

namespace pyllmc {

class BatchFeed {
 public:
  // `entries` batches of (B, T) on the host and `slots` on the device, of a vocabulary of V.
  BatchFeed(Device device, int64_t B, int64_t T, int64_t vocab, int64_t entries, int64_t slots);

  // Copies a batch of the host into an entry, with the order of its tokens. What was sent from the
  // entry before must have arrived. Throws UsageError for a batch of another shape.
  void fill(int64_t entry, const Batch& batch);
  // Enqueues an entry's copy to a slot.
  void send(const Context& context, int64_t entry, int64_t slot) const;
  // A slot's tensors "inputs", "targets" and "order".
  Batch batch(int64_t slot) const;

 private:
  int64_t B_, T_;
  std::vector<int32_t> places_;  // scratch of fill()
  Memory host_, device_;
};

}  // namespace pyllmc
