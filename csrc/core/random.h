// The two random number generators: Philox for everything of ours, mt19937 for llm.c's shuffle.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string_view>

namespace pyllmc {

// 64-bit FNV-1a (Fowler, Noll, Vo); `hash` is that of what stands before `text`.
constexpr uint64_t fnv1a(std::string_view text, uint64_t hash = 0xcbf29ce484222325ull) {
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return hash;
}

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a block of
// four 32-bit words as a pure function of a key and a counter.
class Philox {
 public:
  using Block = std::array<uint32_t, 4>;

  // The stream of one named tensor: equal names give equal numbers in every arm of a comparison.
  Philox(uint64_t seed, std::string_view name) : key_(seed ^ fnv1a(name)) {}

  Block block(uint64_t index, uint64_t step = 0) const;

  // In (0, 1); element 4 b + i of a tensor is word i of block b.
  static double uniform(uint32_t word) { return (word + 0.5) * 0x1p-32; }

  // Fill with draws from U(low, high) or N(0, stddev).
  void fill_uniform(float* out, int64_t count, double low, double high) const;
  void fill_normal(float* out, int64_t count, double stddev) const;

 private:
  uint64_t key_;
};

// llm.c's generator: the standard MT19937, whose 32-bit output is taken modulo n.
class ShuffleGenerator {
 public:
  explicit ShuffleGenerator(uint32_t seed) : engine_(seed) {}
  // Fisher-Yates from the end: i = n-1 ... 1 swaps with (random word) % (i + 1).
  template <class Sequence>
  void permute(Sequence& items) {
    for (int64_t i = static_cast<int64_t>(items.size()) - 1; i > 0; --i) {
      std::swap(items[i], items[engine_() % static_cast<uint32_t>(i + 1)]);
    }
  }

 private:
  std::mt19937 engine_;
};

}  // namespace pyllmc
