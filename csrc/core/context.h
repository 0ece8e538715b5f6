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

  // What the activations are that products read and write. The residual stream, its gradient, and
  // the weights and their gradients are fp32 everywhere.
  DType activations() const {
    return device == Device::cuda && precision == Precision::bf16 ? DType::bf16 : DType::fp32;
  }

  // What a model decodes in: it brings its own workspace, and on the CPU sums in fp32, from copies
  // of the weights in bf16 where there are some.
  Context decoding() const {
    Context context = *this;
    context.workspace = {};
    if (device == Device::cpu) context.precision = Precision::fp32;
    return context;
  }

  // The scratch of one call. `floats` is what the op's *_workspace() function answered.
  float* scratch(const char* op, int64_t floats) const {
    if (workspace.numel() < floats || !workspace) {
      throw UsageError(message(op, " needs a workspace of ", floats, " floats, the context has ",
                               workspace ? workspace.numel() : 0));
    }
    return workspace.data();
  }
};

// The table of an op's kernels in the device library, which is opened on the first ask. Throws
// DeviceError when there is no library or no such table.
const void* device_kernels(const char* op, int64_t bytes);
// Throws DeviceError with the message of a kernel that failed, if one did.
void throw_device_error(const char* op);

template <class Kernels>
const Kernels& device_kernels_of(const char* op) {
  static const auto* const cuda =
      static_cast<const Kernels*>(device_kernels(op, static_cast<int64_t>(sizeof(Kernels))));
  return *cuda;
}

// The kernels of one op for the context's device: the CPU's are linked in.
template <class Kernels>
const Kernels& select_kernels(const Context& context, const Kernels& cpu, const char* op) {
  return context.device == Device::cpu ? cpu : device_kernels_of<Kernels>(op);
}

// Calls one kernel of a table, for example dispatch(context, linear_cpu, "linear",
// &LinearKernels::forward, args).
template <class Kernels, class Args>
void dispatch(const Context& context, const Kernels& cpu, const char* op,
              void (*Kernels::*kernel)(const Context&, const Args&), const Args& args) {
  (select_kernels(context, cpu, op).*kernel)(context, args);
  if (context.device != Device::cpu) throw_device_error(op);
}

}  // namespace pyllmc
