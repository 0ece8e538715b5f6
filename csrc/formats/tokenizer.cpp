#include "formats/tokenizer.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "core/error.h"
#include "formats/file_reader.h"
#include "formats/gpt2_split.h"

namespace pyllmc {

namespace {

constexpr char kKind[] = "tokenizer file";
constexpr int32_t kMagic = 20240328;
constexpr int64_t kGpt2VocabSize = 50257;
constexpr int32_t kGpt2Eot = 50256;

}  // namespace

Tokenizer Tokenizer::open(const std::string& path) {
  const FileReader file(path);
  int32_t header[kHeaderWords];
  read_header(file, kKind, kMagic, header);
  const int32_t version = header[1];
  if (version != 1 && version != 2) {
    throw FormatError(
        message(path, " has version ", version, ", expected 1 or 2; write the tokenizer again"));
  }
  const int64_t count = static_cast<uint32_t>(header[2]);
  // A token takes a length byte and 1 to 255 bytes, which bounds the count before it is used.
  const int64_t body = file.size() - kHeaderBytes;
  if (count < 1 || count > INT32_MAX || body < count * 2 || body > count * 256) {
    throw FormatError(message(path, " has ", file.size(), " bytes and a vocabulary of ", count,
                              " tokens in its header, expected ", kHeaderBytes,
                              " bytes and 2 to 256 for each token; the file is damaged"));
  }
  if (version == 1 && count != kGpt2VocabSize) {
    throw FormatError(message(path, " has version 1, which names no end-of-text id, and ", count,
                              " tokens, expected GPT-2's ", kGpt2VocabSize,
                              "; write the tokenizer again as version 2"));
  }
  const int64_t eot = version == 1 ? kGpt2Eot : static_cast<uint32_t>(header[3]);
  if (eot >= count) {
    throw FormatError(message(path, " has the end-of-text id ", eot, ", expected one below its ",
                              count, " tokens; the file is damaged"));
  }

  Tokenizer tokenizer;
  tokenizer.eot_ = static_cast<int32_t>(eot);
  tokenizer.bytes_.resize(static_cast<size_t>(body));
  file.read(kHeaderBytes, tokenizer.bytes_.data(), tokenizer.bytes_.size());
  tokenizer.tokens_.reserve(static_cast<size_t>(count));
  tokenizer.ids_.reserve(static_cast<size_t>(count));
  std::string_view rest(tokenizer.bytes_.data(), tokenizer.bytes_.size());
  for (int64_t id = 0; id < count; ++id) {
    const size_t length = rest.empty() ? 0 : static_cast<unsigned char>(rest[0]);
    if (length == 0 || length > rest.size() - 1) {
      throw FormatError(message(path, " ends or has an empty token at id ", id, " of ", count, " (",
                                rest.size(), " bytes left, the token's length is ", length,
                                "); the file is damaged"));
    }
    const std::string_view token = rest.substr(1, length);
    rest.remove_prefix(1 + length);
    tokenizer.tokens_.push_back(token);
    // The end-of-text token has a text like any other, which must not turn into it. Of equal
    // tokens the first counts.
    if (id != eot) tokenizer.ids_.emplace(token, static_cast<int32_t>(id));
    tokenizer.longest_ = std::max(tokenizer.longest_, length);
  }
  if (!rest.empty()) {
    throw FormatError(message(path, " has ", rest.size(), " bytes after its ", count,
                              " tokens, expected none; the file is damaged"));
  }
  return tokenizer;
}

std::string_view Tokenizer::decode(int64_t id) const {
  if (id < 0 || id >= vocab_size()) {
    throw UsageError(
        message("token id ", id, " was asked for, the vocabulary has 0 to ", vocab_size() - 1));
  }
  return tokens_[static_cast<size_t>(id)];
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = gpt2_piece_end(text, begin);
    encode_piece(text.substr(begin, end - begin), ids);
    begin = end;
  }
  return ids;
}

void Tokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& out) const {
  if (const auto whole = ids_.find(piece); whole != ids_.end()) {
    out.push_back(whole->second);
    return;
  }
  // Parts are ranges [begin, end_of[begin]) of the piece, each a token; merging two moves the end
  // of the first and clears the end of the second. start_of is the way back from an end.
  const size_t n = piece.size();
  std::vector<size_t> end_of(n), start_of(n + 1);
  for (size_t i = 0; i < n; ++i) {
    end_of[i] = i + 1;
    start_of[i + 1] = i;
  }
  // Possible merges (id, begin, end), lowest id first, leftmost of equals. One goes stale when a
  // part of it is merged with another: then no two parts span its range any more.
  using Merge = std::tuple<int32_t, size_t, size_t>;
  std::priority_queue<Merge, std::vector<Merge>, std::greater<>> merges;
  const auto propose = [&](size_t begin, size_t end) {
    if (end - begin > longest_) return;
    const auto found = ids_.find(piece.substr(begin, end - begin));
    if (found != ids_.end()) merges.emplace(found->second, begin, end);
  };
  for (size_t i = 0; i + 1 < n; ++i) propose(i, i + 2);
  while (!merges.empty()) {
    const auto [id, begin, end] = merges.top();
    merges.pop();
    const size_t middle = end_of[begin];
    if (middle == 0 || middle >= end || end_of[middle] != end) continue;
    end_of[middle] = 0;
    end_of[begin] = end;
    start_of[end] = begin;
    if (begin > 0) propose(start_of[begin], end);
    if (end < n) propose(begin, end_of[end]);
  }
  for (size_t begin = 0; begin < n; begin = end_of[begin]) {
    const auto found = ids_.find(piece.substr(begin, end_of[begin] - begin));
    if (found == ids_.end()) {
      throw UsageError(message("the vocabulary has no token for byte ",
                               static_cast<int>(static_cast<unsigned char>(piece[begin])),
                               ", expected one for every byte; use another tokenizer"));
    }
    out.push_back(found->second);
  }
}

}  // namespace pyllmc
