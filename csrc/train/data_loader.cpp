#include "train/data_loader.h"

#include <algorithm>

namespace pyllmc {
namespace {

std::vector<int64_t> chunks_of(const TokenShards& shards, int64_t B, int64_t T) {
  require_batch_shape(B, T);
  const int64_t chunk = B * T;
  std::vector<int64_t> chunks;
  for (int64_t shard = 0; shard < shards.shard_count(); ++shard) {
    chunks.push_back(std::max<int64_t>(0, (shards.shard_tokens(shard) - 1) / chunk));
  }
  return chunks;
}

}  // namespace

DataLoader::DataLoader(const std::string& pattern, int64_t B, int64_t T, int64_t vocab,
                       uint32_t seed)
    : shards_(TokenShards::open(pattern)),
      B_(B),
      T_(T),
      vocab_(vocab),
      order_(chunks_of(shards_, B, T), seed) {
  if (order_.chunks_per_epoch() == 0) {
    throw FormatError(message(pattern, " holds ", shards_.total_tokens(),
                              " tokens, a batch of B = ", B, " and T = ", T, " needs ", B * T + 1,
                              " in one file; use more data or a smaller batch or sequence"));
  }
  tokens_.resize(static_cast<size_t>(B * T + 1));
  inputs_.resize(static_cast<size_t>(B * T));
  targets_.resize(static_cast<size_t>(B * T));
}

Batch DataLoader::read(ChunkPlace place) {
  const int64_t n = B_ * T_, offset = place.chunk * n;
  shards_.read(place.shard, offset, n + 1, tokens_.data());
  shards_.check_tokens(place.shard, offset, tokens_, vocab_);
  std::copy(tokens_.begin(), tokens_.end() - 1, inputs_.begin());
  std::copy(tokens_.begin() + 1, tokens_.end(), targets_.begin());
  Batch batch;
  batch.set("inputs", Tokens(inputs_.data(), {B_, T_}));
  batch.set("targets", Tokens(targets_.data(), {B_, T_}));
  return batch;
}

}  // namespace pyllmc
