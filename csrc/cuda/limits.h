// What the card at hand grants.
#pragma once

#include <cstdint>

#include "cuda/check.h"

namespace pyllmc::cuda {

// Shared memory of one block, in bytes. Results must not depend on it.
inline int64_t shared_bytes_granted() {
  static const int64_t granted = [] {
    int device = 0, bytes = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "asking for the shared memory of a block");
    return int64_t{bytes};
  }();
  return granted;
}

}  // namespace pyllmc::cuda
