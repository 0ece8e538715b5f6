#include "train/batch_feed.h"

#include <algorithm>

#include "ops/embedding/embedding.h"

namespace pyllmc {
namespace {

constexpr int64_t kParts = 3;  // inputs, targets, order

int32_t* at(const Memory& memory, int64_t index) {
  return reinterpret_cast<int32_t*>(memory.get()) + index;
}

int64_t bytes_of(int64_t numbers) { return numbers * static_cast<int64_t>(sizeof(int32_t)); }

}  // namespace

BatchFeed::BatchFeed(Device device, int64_t B, int64_t T, int64_t vocab, int64_t entries,
                     int64_t slots)
    : B_(B),
      T_(T),
      vocab_(vocab),
      host_(allocate_host(device, bytes_of(entries * kParts * B * T), "batches")),
      device_(allocate(device, bytes_of(slots * kParts * B * T), "batches")) {}

void BatchFeed::fill(int64_t entry, const Batch& batch) {
  const int64_t n = B_ * T_;
  int32_t* inputs = at(host_, entry * kParts * n);
  std::copy_n(batch.get("inputs").data(), n, inputs);
  std::copy_n(batch.get("targets").data(), n, inputs + n);
  order_by_token(inputs, n, vocab_, inputs + 2 * n);
}

void BatchFeed::send(const Context& context, int64_t entry, int64_t slot) const {
  const int64_t n = kParts * B_ * T_;
  copy(context, at(device_, slot * n), at(host_, entry * n), bytes_of(n));
}

Batch BatchFeed::batch(int64_t slot) const {
  const int64_t n = B_ * T_;
  const int32_t* inputs = at(device_, slot * kParts * n);
  Batch batch;
  batch.set("inputs", Tokens(inputs, {B_, T_}));
  batch.set("targets", Tokens(inputs + n, {B_, T_}));
  batch.set("order", Tokens(inputs + 2 * n, {n}));
  return batch;
}

}  // namespace pyllmc
