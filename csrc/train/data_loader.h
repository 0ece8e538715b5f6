// Batches of inputs and targets from token files: the targets are the inputs shifted by one.
#pragma once

#include <string>
#include <vector>

#include "formats/tokens.h"
#include "models/model.h"
#include "train/data_order.h"

namespace pyllmc {

class DataLoader {
 public:
  // Opens the files of a path or glob for batches of (B, T) and a vocabulary of V. Throws
  // UsageError for a shape that cannot be, FormatError when they hold less than one batch.
  DataLoader(const std::string& pattern, int64_t B, int64_t T, int64_t vocab, uint32_t seed);

  int64_t batches() const { return order_.chunks_per_epoch(); }
  int64_t tokens() const { return shards_.total_tokens(); }
  const TokenShards& shards() const { return shards_; }

  // Where batch `index` of the training order lies.
  struct Position {
    int64_t epoch;
    ChunkPlace place;
    uint32_t permutation;  // checksum of the epoch's order
  };
  Position position(int64_t index) {
    return {index / batches(), order_.shuffled(index), order_.epoch_checksum(index)};
  }

  // The batch's tensors "inputs" and "targets" stay valid until the next call. Throws FormatError
  // for a token that is not in the vocabulary.
  Batch shuffled(int64_t index) { return read(order_.shuffled(index)); }
  Batch sequential(int64_t index) { return read(order_.sequential(index)); }

 private:
  Batch read(ChunkPlace place);

  TokenShards shards_;
  int64_t B_, T_, vocab_;
  DataOrder order_;
  std::vector<uint16_t> tokens_;
  std::vector<int32_t> inputs_, targets_;
};

}  // namespace pyllmc
