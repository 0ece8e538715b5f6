// Byte-level BPE read from llm.c's tokenizer file: 256 little-endian uint32 (magic 20240328,
// version 1 or 2, vocabulary size, end-of-text id), then for each id a length byte and its bytes.
// Version 1 has no end-of-text id: 50256 with GPT-2's 50257 tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pyllmc {

class Tokenizer {
 public:
  // Throws FormatError.
  static Tokenizer open(const std::string& path);

  // Moves keep the vocabulary's bytes in place, a copy would not: the views point into them.
  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;

  int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }
  int32_t eot() const { return eot_; }

  // The bytes of a token; a character may be spread over several tokens. The view lives as long as
  // the tokenizer. Throws UsageError when the id is not in [0, vocab_size).
  std::string_view decode(int64_t id) const;

  // Token ids of UTF-8 text, split by GPT-2's pattern and merged lowest id first, as tiktoken's
  // encode_ordinary: the end-of-text token is never produced. Bytes that are not UTF-8 count as
  // punctuation. O(n log n) in the longest unsplit run. Throws UsageError when the vocabulary
  // lacks a single byte that the text needs.
  std::vector<int32_t> encode(std::string_view text) const;

 private:
  Tokenizer() = default;
  void encode_piece(std::string_view piece, std::vector<int32_t>& out) const;

  std::vector<char> bytes_;               // all tokens, one after another
  std::vector<std::string_view> tokens_;  // into bytes_, by id
  std::unordered_map<std::string_view, int32_t> ids_;
  size_t longest_ = 0;
  int32_t eot_ = 0;
};

}  // namespace pyllmc
