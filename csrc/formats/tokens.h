// Token files: 256 little-endian int32 (magic 20240520, version 1, token count), then uint16 ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/file_reader.h"

namespace pyllmc {

// Index of the first id >= vocab_size, or -1 when every id is below it.
int64_t find_token_outside(std::span<const uint16_t> tokens, int64_t vocab_size);

// The token files that a path or glob names, in the order of their names (bytewise). Files are
// opened for each read, so any number of shards works; a file that changed since open() (other
// inode, size or modification time) is refused at the next read.
class TokenShards {
 public:
  // A path that exists is taken as it is, anything else as a glob(3) pattern. Throws FormatError
  // when nothing matches, or a header is wrong, or its count disagrees with the file's size.
  static TokenShards open(const std::string& pattern);

  int64_t shard_count() const { return static_cast<int64_t>(shards_.size()); }
  const std::string& file(int64_t shard) const { return *at(shard).path; }
  int64_t shard_tokens(int64_t shard) const { return at(shard).tokens; }
  int64_t total_tokens() const;

  // Reads tokens [offset, offset + count) of a shard. Throws UsageError when the shard does not
  // have them, FormatError when its file changed, shrank or vanished.
  void read(int64_t shard, int64_t offset, int64_t count, uint16_t* out) const;

  // Throws FormatError naming file, position and value when a token read from (shard, offset) is
  // not below vocab_size.
  void check_tokens(int64_t shard, int64_t offset, std::span<const uint16_t> tokens,
                    int64_t vocab_size) const;

  // check_tokens over everything, read in pieces of 1 MiB.
  void check_range(int64_t vocab_size) const;

  // 64-bit FNV-1a over each shard's file name (without folders), size and CRC-32 of all its bytes.
  // A process reads a file for it once (0.05 s for 100 MB in memory), and again when it changed.
  uint64_t fingerprint() const;

 private:
  struct Shard {
    std::shared_ptr<const std::string> path;
    FileIdentity identity;
    int64_t tokens = 0;
  };

  const Shard& at(int64_t shard) const;
  FileReader reopen(const Shard& shard) const;

  std::string pattern_;
  std::vector<Shard> shards_;
};

}  // namespace pyllmc
