#include "formats/gpt2_split.h"

#include <cstdint>

#include "formats/unicode_classes.h"

namespace pyllmc {

namespace {

struct Char {
  CharClass kind;
  size_t bytes;
};

// The character at `at` < text.size().
Char char_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {char_class(lead), 1};
  const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return {CharClass::other, 1};
  uint32_t code_point = lead & (0x7Fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {CharClass::other, 1};
    code_point = code_point << 6 | (byte(i) & 0x3F);
  }
  const bool overlong = (bytes == 3 && code_point < 0x800) || (bytes == 4 && code_point < 0x10000);
  if (overlong) return {CharClass::other, 1};
  // Surrogates and values past U+10FFFF are other in any case, in one piece or in several.
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
