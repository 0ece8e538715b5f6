// A JSON document (RFC 8259) as a value: what our own structured files are written from and read
// into. Objects keep the order of their keys.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace pyllmc {

class JsonValue {
 public:
  using List = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;

  JsonValue() = default;  // null
  JsonValue(bool value) : value_(value) {}
  JsonValue(int64_t value) : value_(value) {}
  JsonValue(double value) : value_(value) {}
  JsonValue(std::string value) : value_(std::move(value)) {}
  JsonValue(const char* value) : value_(std::string(value)) {}
  JsonValue(List value) : value_(std::move(value)) {}
  JsonValue(Object value) : value_(std::move(value)) {}

  // Throws FormatError, with the byte's position, for what is no JSON document, numbers beyond
  // int64 or double, a key that occurs twice, or more than 64 levels.
  static JsonValue parse(std::string_view text);

  // In one line. A double is written so that it reads back as the same double; what is not finite
  // becomes null, and bytes that are not UTF-8 become U+FFFD.
  std::string text() const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_list() const { return std::holds_alternative<List>(value_); }
  // Each throws FormatError when the value is of another kind. A whole number is also a real one.
  bool boolean() const;
  int64_t integer() const;
  double real() const;
  const std::string& string() const;
  const List& list() const;
  const Object& object() const;

  // Of an object: the value of a key, or nullptr.
  const JsonValue* find(std::string_view key) const;
  // The same; throws FormatError when there is no such key.
  const JsonValue& at(std::string_view key) const;

 private:
  void append_to(std::string& out) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, List, Object> value_;
};

// One number where all are equal, else a list.
JsonValue json_numbers(const std::vector<int64_t>& numbers);

}  // namespace pyllmc
