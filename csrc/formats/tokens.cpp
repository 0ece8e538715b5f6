#include "formats/tokens.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/random.h"
#include "formats/crc32.h"

namespace pyllmc {

namespace {

constexpr char kKind[] = "token file";
constexpr int32_t kMagic = 20240520;
constexpr int32_t kVersion = 1;
constexpr int64_t kTokenBytes = sizeof(uint16_t);

std::vector<std::string> matching_files(const std::string& pattern) {
  // A path with brackets in it is no pattern when a file bears that very name.
  if (std::error_code error; std::filesystem::exists(pattern, error)) return {pattern};
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files;
  if (result == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (files.empty()) {
    throw FormatError(message("no token file matches '", pattern,
                              "', expected at least one; check the path or prepare the data"));
  }
  std::ranges::sort(files);
  return files;
}

// CRC-32 of a whole file. Loaders, the log and every training state ask for it: what was read once
// is remembered for as long as the file is the same.
uint32_t content_crc(const FileReader& file) {
  static std::mutex mutex;
  static std::vector<std::pair<FileIdentity, uint32_t>> known;
  const std::lock_guard guard(mutex);
  const auto found =
      std::ranges::find(known, file.identity(), &std::pair<FileIdentity, uint32_t>::first);
  if (found != known.end()) return found->second;
  std::vector<char> piece(size_t{1} << 20);
  uint32_t crc = 0;
  for (int64_t at = 0; at < file.size(); at += static_cast<int64_t>(piece.size())) {
    const auto n =
        static_cast<size_t>(std::min(file.size() - at, static_cast<int64_t>(piece.size())));
    file.read(at, piece.data(), n);
    crc = crc32(piece.data(), n, crc);
  }
  known.emplace_back(file.identity(), crc);
  return crc;
}

}  // namespace

int64_t find_token_outside(std::span<const uint16_t> tokens, int64_t vocab_size) {
  if (vocab_size > UINT16_MAX) return -1;
  // The largest id first, in a loop that vectorizes; a bad one is looked for only when it exists.
  uint16_t largest = 0;
  for (const uint16_t token : tokens) largest = std::max(largest, token);
  if (tokens.empty() || largest < vocab_size) return -1;
  return std::ranges::find_if(tokens, [=](uint16_t t) { return t >= vocab_size; }) - tokens.begin();
}

TokenShards TokenShards::open(const std::string& pattern) {
  TokenShards shards;
  shards.pattern_ = pattern;
  for (const std::string& path : matching_files(pattern)) {
    const auto shared = std::make_shared<const std::string>(path);
    const FileReader file(shared);
    int32_t header[kHeaderWords];
    read_header(file, kKind, kMagic, header);
    if (header[1] != kVersion) {
      throw FormatError(message(path, " has version ", header[1], ", expected ", kVersion,
                                " (uint16 tokens); prepare the data again"));
    }
    if (header[2] < 0) {
      throw FormatError(message(path, " has a token count of ", header[2],
                                ", expected 0 to 2147483647; split the data into smaller shards"));
    }
    const int64_t bytes = kHeaderBytes + header[2] * kTokenBytes;
    if (file.size() != bytes) {
      throw FormatError(message(path, " has ", file.size(), " bytes, its count of ", header[2],
                                " tokens asks for ", bytes,
                                "; the file is not complete, prepare the data again"));
    }
    shards.shards_.push_back({shared, file.identity(), header[2]});
  }
  return shards;
}

const TokenShards::Shard& TokenShards::at(int64_t shard) const {
  if (shard < 0 || shard >= shard_count()) {
    throw UsageError(message("shard ", shard, " was asked for, '", pattern_, "' has ",
                             shard_count(), ", counted from 0"));
  }
  return shards_[static_cast<size_t>(shard)];
}

int64_t TokenShards::total_tokens() const {
  return std::transform_reduce(shards_.begin(), shards_.end(), int64_t{0}, std::plus<>(),
                               [](const Shard& shard) { return shard.tokens; });
}

FileReader TokenShards::reopen(const Shard& shard) const {
  FileReader file(shard.path);
  if (file.identity() != shard.identity) {
    throw FormatError(message(*shard.path, " was changed or replaced while in use (", file.size(),
                              " bytes now, ", shard.identity.size,
                              " when it was opened); start again with the new file"));
  }
  return file;
}

void TokenShards::read(int64_t shard, int64_t offset, int64_t count, uint16_t* out) const {
  const Shard& s = at(shard);
  if (offset < 0 || count < 0 || offset > s.tokens || count > s.tokens - offset) {
    throw UsageError(message("tokens ", offset, " to ", offset, " + ", count, " of ", *s.path,
                             " were asked for, it has ", s.tokens));
  }
  reopen(s).read(kHeaderBytes + offset * kTokenBytes, out,
                 static_cast<size_t>(count * kTokenBytes));
}

void TokenShards::check_tokens(int64_t shard, int64_t offset, std::span<const uint16_t> tokens,
                               int64_t vocab_size) const {
  const int64_t bad = find_token_outside(tokens, vocab_size);
  if (bad < 0) return;
  throw FormatError(message(file(shard), " has token id ", tokens[static_cast<size_t>(bad)],
                            " at position ", offset + bad, ", expected ids below ", vocab_size,
                            "; the data was made for another vocabulary than the model's"));
}

void TokenShards::check_range(int64_t vocab_size) const {
  std::vector<uint16_t> piece(size_t{1} << 19);
  for (int64_t shard = 0; shard < shard_count(); ++shard) {
    const int64_t tokens = shard_tokens(shard);
    for (int64_t at = 0; at < tokens; at += static_cast<int64_t>(piece.size())) {
      const auto n = std::min(tokens - at, static_cast<int64_t>(piece.size()));
      read(shard, at, n, piece.data());
      check_tokens(shard, at, {piece.data(), static_cast<size_t>(n)}, vocab_size);
    }
  }
}

uint64_t TokenShards::fingerprint() const {
  uint64_t hash = fnv1a("");
  const auto add = [&](const void* data, size_t bytes) {
    hash = fnv1a({static_cast<const char*>(data), bytes}, hash);
  };
  for (const Shard& shard : shards_) {
    const std::string name = std::filesystem::path(*shard.path).filename().string();
    add(name.c_str(), name.size() + 1);
    const int64_t size = shard.identity.size;
    add(&size, sizeof size);
    const uint32_t crc = content_crc(reopen(shard));
    add(&crc, sizeof crc);
  }
  return hash;
}

}  // namespace pyllmc
