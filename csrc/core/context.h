// What every op is told: where to run, with how many threads, in which precision, and the scratch
// memory it may use. Ops only enqueue work: they allocate nothing and keep nothing.
#pragma once

#include "core/memory.h"
#include "core/tensor.h"

namespace pyllmc {

struct Context {
  Device device = Device::cpu;
  void* stream = nullptr;  // of the device; unused on the CPU
  Precision precision = Precision::fp32;
  int threads = 1;
  TensorOf<float> workspace;  // one buffer for all ops: an op's content ends with its call

  // The scratch of one call. `floats` is what the op's *_workspace() function answered.
  float* scratch(const char* op, int64_t floats) const {
    if (workspace.numel() < floats || !workspace) {
      throw UsageError(message(op, " needs a workspace of ", floats, " floats, the context has ",
                               workspace ? workspace.numel() : 0));
    }
    return workspace.data();
  }
};

// The kernels of one op that a device library brought with it (the CUDA library sets them when it
// is opened); the CPU's are linked in.
template <class Kernels>
struct DeviceKernels {
  static inline const Kernels* cuda = nullptr;
};

template <class Kernels>
const Kernels& select_kernels(const Context& context, const Kernels& cpu, const char* op) {
  if (context.device == Device::cpu) return cpu;
  if (!DeviceKernels<Kernels>::cuda) {
    throw DeviceError(message(op, " has no kernels for ", name_of(context.device)));
  }
  return *DeviceKernels<Kernels>::cuda;
}

}  // namespace pyllmc
