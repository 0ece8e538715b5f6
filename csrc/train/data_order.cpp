#include "train/data_order.h"

#include <numeric>

#include "formats/crc32.h"

namespace pyllmc {

DataOrder::DataOrder(std::vector<int64_t> shard_chunks, uint32_t seed)
    : shard_chunks_(std::move(shard_chunks)), seed_(seed), generator_(seed) {
  for (int64_t chunks : shard_chunks_) chunks_ += chunks;
}

void DataOrder::draw_epoch() {
  const auto permute = [&](std::vector<int64_t>& items, size_t n) {
    items.resize(n);
    std::iota(items.begin(), items.end(), 0);
    generator_.permute(items);
  };
  order_.clear();
  permute(shard_order_, shard_chunks_.size());
  for (int64_t shard : shard_order_) {
    permute(chunk_order_, static_cast<size_t>(shard_chunks_[static_cast<size_t>(shard)]));
    for (int64_t chunk : chunk_order_) order_.push_back({shard, chunk});
  }
  ++epoch_;
}

ChunkPlace DataOrder::shuffled(int64_t index) {
  const int64_t epoch = index / chunks_;
  if (epoch < epoch_) {
    generator_ = ShuffleGenerator(seed_);
    epoch_ = -1;
  }
  while (epoch_ < epoch) draw_epoch();
  return order_[static_cast<size_t>(index % chunks_)];
}

uint32_t DataOrder::epoch_checksum(int64_t index) {
  shuffled(index);
  static_assert(sizeof(ChunkPlace) == 2 * sizeof(int64_t));
  return crc32(order_.data(), order_.size() * sizeof(ChunkPlace));
}

ChunkPlace DataOrder::sequential(int64_t index) const {
  int64_t shard = 0;
  while (index >= shard_chunks_[static_cast<size_t>(shard)]) {
    index -= shard_chunks_[static_cast<size_t>(shard)];
    ++shard;
  }
  return {shard, index};
}

}  // namespace pyllmc
