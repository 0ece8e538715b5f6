// Writing one line of JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pyllmc {

class JsonValue;

// A JSON string. Bytes that are not UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);

class JsonLine {
 public:
  explicit JsonLine(std::string_view type) { add("type", type); }
  // Full precision; what is not finite becomes null, as JSON has no word for it.
  JsonLine& add(std::string_view key, double value);
  JsonLine& add(std::string_view key, int64_t value);
  JsonLine& add(std::string_view key, bool value);
  // Bytes that are not UTF-8 become U+FFFD.
  JsonLine& add(std::string_view key, std::string_view value);
  JsonLine& add_value(std::string_view key, const JsonValue& value);
  JsonLine& add_null(std::string_view key);
  std::string text() const { return "{" + body_ + "}"; }

 private:
  JsonLine& raw(std::string_view key, const std::string& value);
  std::string body_;
};

}  // namespace pyllmc
