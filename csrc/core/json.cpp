#include "core/json.h"

#include <cmath>
#include <cstdio>

#include "core/json_value.h"
#include "core/utf8.h"

namespace pyllmc {

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_char(text, at).bytes;
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
