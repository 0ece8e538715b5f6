// Which chunk of the token files a batch is: a pure function of (seed, batch number), so that a
// resumed run needs counters only.
//
// A shard of n tokens is floor((n - 1) / (B T)) chunks of B T tokens, each read with one token more
// for the targets. Every epoch draws a permutation of the shards and, on entering a shard, one of
// its chunks, from one mt19937 that runs on over the epochs (llm.c's order).
#pragma once

#include <cstdint>
#include <vector>

#include "core/random.h"

namespace pyllmc {

struct ChunkPlace {
  int64_t shard;
  int64_t chunk;
};

class DataOrder {
 public:
  // Chunks of each shard, in the order of the files' names.
  DataOrder(std::vector<int64_t> shard_chunks, uint32_t seed);

  int64_t chunks_per_epoch() const { return chunks_; }
  // Batch number `index`, counted over all epochs. Asking in rising order is cheap; an earlier
  // epoch is drawn again from the start.
  ChunkPlace shuffled(int64_t index);
  // CRC-32 of the order of the whole epoch that batch `index` belongs to.
  uint32_t epoch_checksum(int64_t index);
  // Chunk number `index` in the order of the files.
  ChunkPlace sequential(int64_t index) const;

 private:
  void draw_epoch();

  std::vector<int64_t> shard_chunks_;
  int64_t chunks_ = 0;
  uint32_t seed_;
  ShuffleGenerator generator_;
  int64_t epoch_ = -1;  // the one that order_ holds
  std::vector<ChunkPlace> order_;
  std::vector<int64_t> shard_order_, chunk_order_;  // reused: only the first epoch allocates
};

}  // namespace pyllmc
