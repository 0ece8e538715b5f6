#include "bindings/dlpack.h"

#include <algorithm>
#include <memory>

#include "core/bf16.h"
#include "core/device.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

// The structures of dlpack.h, version 0.8.
enum DLDeviceType : int32_t { kDLCPU = 1, kDLCUDA = 2 };
enum DLTypeCode : uint8_t { kDLFloat = 2, kDLBfloat = 4 };

struct DLDevice {
  int32_t type;
  int32_t number;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null = contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};

constexpr char kFresh[] = "dltensor", kUsed[] = "used_dltensor";

// What an exported tensor points into.
struct Exported {
  SharedArray array;
  DLManagedTensor managed;
};

void free_unused(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, kFresh)) return;
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, kFresh));
  managed->deleter(managed);
}

DLDevice device_number(const SharedArray& array) {
  return {array.device == Device::cuda ? kDLCUDA : kDLCPU, 0};
}

bool is_contiguous(const DLTensor& tensor) {
  if (!tensor.strides) return true;
  int64_t expected = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

}  // namespace

py::capsule to_dlpack(const SharedArray& array) {
  auto owned = std::make_unique<Exported>();
  owned->array = array;
  const bool bf16 = array.type == DType::bf16;
  owned->managed = {
      .tensor = {.data = array.data,
                 .device = device_number(array),
                 .ndim = static_cast<int32_t>(array.shape.size()),
                 .dtype = {bf16 ? kDLBfloat : kDLFloat, static_cast<uint8_t>(bf16 ? 16 : 32), 1},
                 .shape = owned->array.shape.data(),
                 .strides = nullptr,
                 .byte_offset = 0},
      .context = owned.get(),
      .deleter = [](DLManagedTensor* managed) { delete static_cast<Exported*>(managed->context); }};
  PyObject* capsule = PyCapsule_New(&owned->managed, kFresh, free_unused);
  if (!capsule) throw py::error_already_set();
  (void)owned.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

py::tuple dlpack_device(const SharedArray& array) {
  const DLDevice device = device_number(array);
  return py::make_tuple(device.type, device.number);
}

ReadArray from_dlpack(const py::object& source) {
  const py::object capsule = source.attr("__dlpack__")();
  if (!PyCapsule_IsValid(capsule.ptr(), kFresh)) {
    throw UsageError("the array's __dlpack__() gave no fresh \"dltensor\" capsule");
  }
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  PyCapsule_SetName(capsule.ptr(), kUsed);
  const std::unique_ptr<DLManagedTensor, void (*)(DLManagedTensor*)> owner(managed,
                                                                           [](DLManagedTensor* m) {
                                                                             if (m->deleter)
                                                                               m->deleter(m);
                                                                           });
  const DLTensor& tensor = managed->tensor;
  const bool bf16 = tensor.dtype.code == kDLBfloat && tensor.dtype.bits == 16;
  const bool fp32 = tensor.dtype.code == kDLFloat && tensor.dtype.bits == 32;
  if (!(bf16 || fp32) || tensor.dtype.lanes != 1) {
    throw UsageError(message("the array's elements are of kind ", int{tensor.dtype.code}, " with ",
                             int{tensor.dtype.bits}, " bits, expected float32 or bfloat16"));
  }
  if (!is_contiguous(tensor)) throw UsageError("the array is not contiguous: pass a copy of it");
  if (tensor.device.type != kDLCPU && tensor.device.type != kDLCUDA) {
    throw UsageError(message("the array is on a device of kind ", tensor.device.type,
                             ", expected the CPU or CUDA"));
  }
  ReadArray read;
  read.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  int64_t count = 1;
  for (const int64_t dim : read.shape) count *= dim;
  read.values.resize(static_cast<size_t>(count));
  const auto* from = static_cast<const std::byte*>(tensor.data) + tensor.byte_offset;
  const Device device = tensor.device.type == kDLCUDA ? Device::cuda : Device::cpu;
  if (fp32) {
    copy_now(device, read.values.data(), from, count * static_cast<int64_t>(sizeof(float)));
    return read;
  }
  std::vector<uint16_t> bits(read.values.size());
  copy_now(device, bits.data(), from, count * static_cast<int64_t>(sizeof(uint16_t)));
  std::ranges::transform(bits, read.values.begin(), float_from_bf16);
  return read;
}

}  // namespace pyllmc
