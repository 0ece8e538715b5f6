#include "core/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>

#include "core/error.h"
#include "core/utf8.h"

namespace pyllmc {
namespace {

constexpr int kMostLevels = 64;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  JsonValue document() {
    JsonValue value = next(0);
    skip_space();
    if (at_ != text_.size()) fail("nothing more");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* expected) const {
    throw FormatError(message("no JSON: expected ", expected, " at byte ", at_));
  }

  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  JsonValue next(int level) {
    if (level > kMostLevels) fail("fewer levels");
    skip_space();
    switch (peek()) {
      case '{':
        return object(level);
      case '[':
        return list(level);
      case '"':
        return string();
      default:
        if (take("true")) return true;
        if (take("false")) return false;
        if (take("null")) return {};
        return number();
    }
  }

  JsonValue object(int level) {
    JsonValue::Object members;
    ++at_;
    skip_space();
    if (take("}")) return members;
    while (true) {
      skip_space();
      if (peek() != '"') fail("a key");
      std::string key = string();
      for (const auto& [other, value] : members) {
        if (other == key) fail("a key that occurs once");
      }
      skip_space();
      if (!take(":")) fail("':'");
      JsonValue value = next(level + 1);
      members.emplace_back(std::move(key), std::move(value));
      skip_space();
      if (take("}")) return members;
      if (!take(",")) fail("',' or '}'");
    }
  }

  JsonValue list(int level) {
    JsonValue::List items;
    ++at_;
    skip_space();
    if (take("]")) return items;
    while (true) {
      items.push_back(next(level + 1));
      skip_space();
      if (take("]")) return items;
      if (!take(",")) fail("',' or ']'");
    }
  }

  uint32_t four_hex_digits() {
    uint32_t code = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (error != std::errc() || end != digits.data() + 4) fail("four hexadecimal digits");
    at_ += 4;
    return code;
  }

  void append_utf8(std::string& out, uint32_t code) const {
    const auto byte = [&](uint32_t value) { out += static_cast<char>(value); };
    if (code < 0x80) {
      byte(code);
    } else if (code < 0x800) {
      byte(0xC0 | code >> 6);
      byte(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      byte(0xE0 | code >> 12);
      byte(0x80 | (code >> 6 & 0x3F));
      byte(0x80 | (code & 0x3F));
    } else {
      byte(0xF0 | code >> 18);
      byte(0x80 | (code >> 12 & 0x3F));
      byte(0x80 | (code >> 6 & 0x3F));
      byte(0x80 | (code & 0x3F));
    }
  }

  std::string string() {
    std::string out;
    ++at_;
    while (true) {
      if (at_ == text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20) fail("'\"'");
      const char c = text_[at_++];
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      const char escape = peek();
      ++at_;
      constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
      if (const size_t which = kEscapes.find(escape); escape && which != kEscapes.npos) {
        out += kMeant[which];
      } else if (escape == 'u') {
        uint32_t code = four_hex_digits();
        if (code >= 0xD800 && code < 0xDC00 && take("\\u")) {
          const uint32_t low = four_hex_digits();
          if (low < 0xDC00 || low > 0xDFFF) fail("the second half of a surrogate pair");
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        if (code >= 0xD800 && code < 0xE000) fail("a surrogate pair");
        append_utf8(out, code);
      } else {
        fail("an escape");
      }
    }
  }

  JsonValue number() {
    const size_t begin = at_;
    const auto digits = [&] {
      const size_t first = at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      return at_ - first;
    };
    take("-");
    const bool zero = peek() == '0';
    const size_t whole_digits = digits();
    if (whole_digits == 0 || (zero && whole_digits > 1)) fail("a value");
    bool whole = true;
    if (take(".")) {
      whole = false;
      if (digits() == 0) fail("a digit");
    }
    if (take("e") || take("E")) {
      whole = false;
      if (!take("+")) take("-");
      if (digits() == 0) fail("a digit");
    }
    const char *first = text_.data() + begin, *last = text_.data() + at_;
    if (whole) {
      int64_t value = 0;
      if (std::from_chars(first, last, value).ec != std::errc()) fail("a number below 2^63");
      return value;
    }
    double value = 0;
    if (std::from_chars(first, last, value).ec != std::errc()) fail("a number in double's range");
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Bytes that are not UTF-8 become U+FFFD.
std::string quoted(std::string_view text) {
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

template <class T, class Variant>
const T& expect(const Variant& variant, const char* kind, const JsonValue& value) {
  if (const T* held = std::get_if<T>(&variant)) return *held;
  throw FormatError(message("expected ", kind, ", found ", value.text().substr(0, 40)));
}

}  // namespace

JsonValue JsonValue::parse(std::string_view text) { return Parser(text).document(); }

bool JsonValue::boolean() const { return expect<bool>(value_, "true or false", *this); }
int64_t JsonValue::integer() const { return expect<int64_t>(value_, "a whole number", *this); }
double JsonValue::real() const {
  if (const auto* whole = std::get_if<int64_t>(&value_)) return static_cast<double>(*whole);
  return expect<double>(value_, "a number", *this);
}
const std::string& JsonValue::string() const {
  return expect<std::string>(value_, "a string", *this);
}
const JsonValue::List& JsonValue::list() const { return expect<List>(value_, "a list", *this); }
const JsonValue::Object& JsonValue::object() const {
  return expect<Object>(value_, "an object", *this);
}

const JsonValue* JsonValue::find(std::string_view key) const {
  for (const auto& [name, value] : object()) {
    if (name == key) return &value;
  }
  return nullptr;
}

const JsonValue& JsonValue::at(std::string_view key) const {
  if (const JsonValue* value = find(key)) return *value;
  throw FormatError(message("there is no \"", key, "\""));
}

void JsonValue::append_to(std::string& out) const {
  const auto append_number = [&](auto number) {
    char digits[32];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
  };
  if (is_null()) {
    out += "null";
  } else if (const auto* truth = std::get_if<bool>(&value_)) {
    out += *truth ? "true" : "false";
  } else if (const auto* whole = std::get_if<int64_t>(&value_)) {
    append_number(*whole);
  } else if (const auto* number = std::get_if<double>(&value_)) {
    std::isfinite(*number) ? append_number(*number) : void(out += "null");
  } else if (const auto* words = std::get_if<std::string>(&value_)) {
    out += quoted(*words);
  } else if (const auto* items = std::get_if<List>(&value_)) {
    out += '[';
    for (const JsonValue& item : *items) {
      if (&item != &items->front()) out += ", ";
      item.append_to(out);
    }
    out += ']';
  } else if (const auto* members = std::get_if<Object>(&value_)) {
    out += '{';
    for (const auto& member : *members) {
      if (&member != &members->front()) out += ", ";
      out += quoted(member.first) + ": ";
      member.second.append_to(out);
    }
    out += '}';
  }
}

std::string JsonValue::text() const {
  std::string out;
  append_to(out);
  return out;
}

JsonValue json_numbers(const std::vector<int64_t>& numbers) {
  if (std::ranges::adjacent_find(numbers, std::not_equal_to<>()) == numbers.end()) {
    return numbers.front();
  }
  return JsonValue::List(numbers.begin(), numbers.end());
}

}  // namespace pyllmc
