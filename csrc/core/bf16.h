// bfloat16, the upper half of an fp32: 1 sign, 8 exponent and 7 mantissa bits, as a uint16_t.
#pragma once

#include <bit>
#include <cstdint>

namespace pyllmc {

// The nearest bf16, ties to the even one. What is beyond the largest finite bf16 by half a step or
// more becomes infinity. A NaN stays one: what came from a bf16 keeps its bits, another keeps its
// sign and upper payload and becomes quiet.
constexpr uint16_t bf16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16) | ((bits & 0xffffu) != 0 ? 0x40u : 0u));
  }
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Exact.
constexpr float float_from_bf16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

}  // namespace pyllmc
