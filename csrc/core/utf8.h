// Characters of UTF-8 text (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pyllmc {

struct Utf8Char {
  uint32_t code_point;
  size_t bytes;  // 0: what stands there is no character
};

// The character that begins at `at` < text.size(). Overlong forms and surrogates are none.
inline Utf8Char utf8_char(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return {0, 0};
  uint32_t code_point = lead & (0x7Fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {0, 0};
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
  }
  const bool overlong = (bytes == 3 && code_point < 0x800) || (bytes == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  if (overlong || surrogate || code_point > 0x10FFFF) return {0, 0};
  return {code_point, bytes};
}

}  // namespace pyllmc
