// Turns a failed call of the CUDA runtime into a DeviceError that names what was being done.
#pragma once

#include <cuda_runtime.h>

#include "core/error.h"

namespace pyllmc::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw DeviceError(message("CUDA: ", what, " failed: ", cudaGetErrorString(status), " (",
                            cudaGetErrorName(status), ")"));
}

}  // namespace pyllmc::cuda
