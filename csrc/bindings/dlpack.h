// Tensors shared with other libraries without a copy (DLPack 0.8's unversioned form, which NumPy,
// CuPy and PyTorch read and write).
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"

namespace pyllmc {

// A row-major array of the core's, kept alive by its memory.
struct SharedArray {
  Memory memory;
  void* data = nullptr;
  std::vector<int64_t> shape;
  DType type = DType::fp32;
  Device device = Device::cpu;
};

// A "dltensor" capsule; the memory lives until its consumer lets go.
pybind11::capsule to_dlpack(const SharedArray& array);
// DLPack's (device type, device number).
pybind11::tuple dlpack_device(const SharedArray& array);

// The numbers of an object with __dlpack__, fp32 or bf16 and contiguous, on the CPU or a GPU.
struct ReadArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
ReadArray from_dlpack(const pybind11::object& source);

}  // namespace pyllmc
