// Small good files of every format, for tests and as seeds of the fuzzer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pyllmc::test {

// 256 words with `first` in front.
inline std::string header(const std::vector<uint32_t>& first) {
  std::vector<uint32_t> words(256);
  std::copy(first.begin(), first.end(), words.begin());
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint32_t)};
}

// maxT 4, V 5, L 2, NH 2, C 4, Vp 8; `bytes` 4 (version 3) or 2 (version 5) an element.
inline std::string checkpoint_sample(int bytes) {
  const size_t L = 2, C = 4;
  const size_t count = 8 * C + 4 * C + L * (12 * C * C + 13 * C) + 2 * C;
  std::string file = header({20240326, bytes == 2 ? 5u : 3u, 4, 5, 2, 2, 4, 8, 7, 1, 6, 0, 1, 2});
  for (size_t i = 0; i < count * static_cast<size_t>(bytes); ++i) {
    file += static_cast<char>(i % 3 == 0 ? 0x3c : i);
  }
  return file;
}

inline std::string tokens_sample() {
  std::string file = header({20240520, 1, 9});
  for (int i = 0; i < 9; ++i) file += {static_cast<char>(i % 5), '\0'};
  return file;
}

inline std::string tokenizer_sample() {
  std::string file = header({20240328, 2, 6, 5});
  for (const std::string token : {"a", "b", "ab", " a", "\xc3\xa9", "end"}) {
    file += static_cast<char>(token.size());
    file += token;
  }
  return file;
}

inline std::string log_sample() {
  return "s:0 tel:10.8544\ns:0 trl:10.9 lr:0.0003 norm:1.25\r\nstep:3/10 val_loss:4.5 x:2ms\n"
         "{\"type\":\"val\",\"step\":1,\"loss\":2.5,\"note\":[{\"a\":\"\\\"}\"}]}\n\ns:1 "
         "tsb:nan\ns:2 te";
}

}  // namespace pyllmc::test
