// Values as people write them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace pyllmc {

// "1024,512,512,256"; one number for a list of equal ones.
inline std::string join(const std::vector<int64_t>& numbers) {
  std::string text;
  bool equal = true;
  for (const int64_t number : numbers) {
    if (!text.empty()) text += ',';
    text += std::to_string(number);
    equal = equal && number == numbers.front();
  }
  return equal && !numbers.empty() ? std::to_string(numbers.front()) : text;
}

// Sixteen hexadecimal digits.
inline std::string hex_text(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace pyllmc
