#include "core/random.h"

#include <cmath>

namespace pyllmc {

Philox::Block Philox::block(uint64_t index, uint64_t step) const {
  Block c = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
             static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
  uint32_t k0 = static_cast<uint32_t>(key_);
  uint32_t k1 = static_cast<uint32_t>(key_ >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

void Philox::fill_uniform(float* out, int64_t count, double low, double high) const {
  for (int64_t b = 0; b * 4 < count; ++b) {
    const Block words = block(static_cast<uint64_t>(b));
    for (int64_t i = 0; i < 4 && 4 * b + i < count; ++i) {
      out[4 * b + i] = static_cast<float>(low + (high - low) * uniform(words[i]));
    }
  }
}

void Philox::fill_normal(float* out, int64_t count, double stddev) const {
  constexpr double kTwoPi = 6.283185307179586476925;
  for (int64_t b = 0; b * 4 < count; ++b) {
    const Block words = block(static_cast<uint64_t>(b));
    double normals[4];
    for (int pair = 0; pair < 2; ++pair) {  // Box-Muller
      const double radius = std::sqrt(-2.0 * std::log(uniform(words[2 * pair])));
      const double angle = kTwoPi * uniform(words[2 * pair + 1]);
      normals[2 * pair] = radius * std::cos(angle);
      normals[2 * pair + 1] = radius * std::sin(angle);
    }
    for (int64_t i = 0; i < 4 && 4 * b + i < count; ++i) {
      out[4 * b + i] = static_cast<float>(stddev * normals[i]);
    }
  }
}

}  // namespace pyllmc
