// Bandwidths from Python: one number for all layers, or a list of one for each.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <variant>
#include <vector>

namespace pyllmc {

using Bandwidths = std::variant<int64_t, std::vector<int64_t>>;

inline std::vector<int64_t> bandwidth_list(const Bandwidths& bandwidths) {
  if (const auto* one = std::get_if<int64_t>(&bandwidths)) return {*one};
  return std::get<std::vector<int64_t>>(bandwidths);
}

}  // namespace pyllmc
