#include "formats/gpt2_split.h"

#include "core/utf8.h"
#include "formats/unicode_classes.h"

namespace pyllmc {

namespace {

struct Char {
  CharClass kind;
  size_t bytes;
};

// The character at `at` < text.size(); a byte that begins none is one of its own.
Char char_at(std::string_view text, size_t at) {
  if (const auto byte = static_cast<unsigned char>(text[at]); byte < 0x80) {
    return {char_class(byte), 1};  // nearly all, and the time of splitting is theirs
  }
  const auto [code_point, bytes] = utf8_char(text, at);
  if (bytes == 0) return {CharClass::other, 1};
  return {char_class(code_point), bytes};
}

size_t contraction_bytes(std::string_view text) {
  for (const std::string_view ending : {"'s", "'d", "'m", "'t", "'ll", "'ve", "'re"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  return 0;
}

}  // namespace

size_t gpt2_piece_end(std::string_view text, size_t begin) {
  if (const size_t bytes = contraction_bytes(text.substr(begin))) return begin + bytes;

  // One space goes with the run behind it, whichever kind that is.
  size_t at = text[begin] == ' ' && begin + 1 < text.size() ? begin + 1 : begin;
  Char next = char_at(text, at);
  const CharClass kind = next.kind;
  size_t last = at;  // where the run's last character begins
  for (; next.kind == kind; next = char_at(text, at)) {
    last = at;
    at += next.bytes;
    if (at == text.size()) return at;
  }
  // White space before a word leaves its last character to that word, or to a piece of its own.
  return kind == CharClass::space && last > begin ? last : at;
}

}  // namespace pyllmc
