// What computes, in words for logs and states: the bits of a run depend on it.
#pragma once

#include <string>

#include "core/tensor.h"

namespace pyllmc {

struct Machine {
  std::string kernels;  // of products of that precision: "avx512", or the GPU's library and chip
  std::string gpu;      // its name, empty on the CPU
  std::string library;  // of the GPU's matrix products, empty on the CPU, whose kernels are our own
  std::string set;      // every kernel that may have a part in the bits
};

Machine machine_of(Device device, Precision precision);

}  // namespace pyllmc
