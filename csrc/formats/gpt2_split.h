// GPT-2's split of text into the pieces that byte-pair merges stay within.
#pragma once

#include <cstddef>
#include <string_view>

namespace pyllmc {

// End of the piece that begins at `begin` < text.size(). The pieces are the matches of
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// (the pattern of GPT-2's published encoder), which together cover every text. A byte that is not
// part of valid UTF-8 is a character of its own, outside \s, \p{L} and \p{N}.
size_t gpt2_piece_end(std::string_view text, size_t begin);

}  // namespace pyllmc
