#include "train/batch_feed.h"

#include <algorithm>

#include "ops/embedding/embedding.h"

namespace pyllmc {
namespace {

constexpr int64_t kParts = 3;  // inputs, targets, order
constexpr int64_t kNumber = sizeof(int32_t);

int32_t* at(const Memory& memory, int64_t index) {
  return reinterpret_cast<int32_t*>(memory.get()) + index;
}

int64_t bytes_of(int64_t batches, int64_t B, int64_t T) {
  require_batch_shape(B, T);
  const int64_t batch = kParts * kNumber * B * T;
  if (batches > INT64_MAX / batch) {
    throw UsageError(message(batches, " batches of B = ", B, " and T = ", T,
                             " take 2^63 bytes or more: accumulate fewer"));
  }
  return batches * batch;
}

}  // namespace

BatchFeed::BatchFeed(Device device, int64_t B, int64_t T, int64_t vocab, int64_t entries,
                     int64_t slots)
    : B_(B),
      T_(T),
      places_(static_cast<size_t>(vocab) + 1),
      host_(allocate_host(device, bytes_of(entries, B, T), "batches")),
      device_(allocate(device, bytes_of(slots, B, T), "batches")) {}

void BatchFeed::fill(int64_t entry, const Batch& batch) {
  const Tokens from = batch.get("inputs"), targets = batch.get("targets");
  require_shape("feed", "inputs", from, {B_, T_});
  require_shape("feed", "targets", targets, {B_, T_});
  const int64_t n = B_ * T_;
  int32_t* inputs = at(host_, entry * kParts * n);
  std::copy_n(from.data(), n, inputs);
  std::copy_n(targets.data(), n, inputs + n);
  order_by_token(inputs, n, places_, inputs + 2 * n);
}

void BatchFeed::send(const Context& context, int64_t entry, int64_t slot) const {
  const int64_t n = kParts * B_ * T_;
  copy(context, at(device_, slot * n), at(host_, entry * n), n * kNumber);
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
