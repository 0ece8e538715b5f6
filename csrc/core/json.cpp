#include "core/json.h"

#include <cmath>
#include <cstdio>

#include "core/json_value.h"

namespace pyllmc {
namespace {

// Length of the UTF-8 sequence that starts at `at`, 0 when the bytes are not one (RFC 3629).
size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool surrogate = first == 0xED && byte(1) >= 0xA0;
  const bool too_large = first == 0xF4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    const char c = text[at];
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += text.substr(at, length);
    }
    at += length == 0 ? 1 : length;
  }
  return out + "\"";
}

JsonLine& JsonLine::raw(std::string_view key, const std::string& value) {
  body_ += (body_.empty() ? "" : ", ") + json_quoted(key) + ": " + value;
  return *this;
}

JsonLine& JsonLine::add(std::string_view key, double value) {
  if (!std::isfinite(value)) return add_null(key);
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return raw(key, text);
}
JsonLine& JsonLine::add(std::string_view key, int64_t value) {
  return raw(key, std::to_string(value));
}
JsonLine& JsonLine::add(std::string_view key, bool value) {
  return raw(key, value ? "true" : "false");
}
JsonLine& JsonLine::add(std::string_view key, std::string_view value) {
  return raw(key, json_quoted(value));
}
JsonLine& JsonLine::add_value(std::string_view key, const JsonValue& value) {
  return raw(key, value.text());
}
JsonLine& JsonLine::add_null(std::string_view key) { return raw(key, "null"); }

}  // namespace pyllmc
