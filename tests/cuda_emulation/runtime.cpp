// Streams, graphs, events, errors and what the device says of itself.
#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "block.h"

using Work = std::vector<std::function<void()>>;

struct EmulatedGraph {
  Work work;
  std::vector<EmulatedStream*> branches;  // still to be joined
};
struct EmulatedStream {
  EmulatedGraph* captured = nullptr;
  EmulatedStream* origin = nullptr;  // of a branch
  // Where the order is turned round, a branch's work is done when it is waited for, not before.
  bool late = false;
  Work waiting;
};
struct EmulatedEvent {
  EmulatedStream* stream = nullptr;
};

namespace {

// What another library of the process has enqueued on the null stream. Other streams do not wait
// for it.
std::vector<std::function<void()>> foreign_work;

thread_local cudaError_t last_error = cudaSuccess;
thread_local char failure_text[600];

cudaError_t failed(cudaError_t status) {
  last_error = status;
  return status;
}

}  // namespace

namespace emulation {

void finish_foreign_work() {
  const DeviceAccess access;
  for (const auto& work : foreign_work) work();
  foreign_work.clear();
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  if (!stream) finish_foreign_work();
  if (stream && stream->late) {
    stream->waiting.push_back(std::move(work));
    return;
  }
  if (stream && stream->captured) {
    stream->captured->work.push_back(std::move(work));
    return;
  }
  const DeviceAccess access;
  try {
    work();
  } catch (const Failure& failure) {
    std::snprintf(failure_text, sizeof failure_text, "%s", failure.text);
    failed(cudaErrorLaunchFailure);
  }
}

}  // namespace emulation

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t status) {
  if (status == cudaErrorLaunchFailure) return failure_text;
  if (status == cudaErrorMemoryAllocation) return "out of memory";
  return status == cudaSuccess ? "no error" : "invalid argument";
}
cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error;
  last_error = cudaSuccess;
  return status;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated on the CPU");
  properties->major = 8;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulation::kMostSharedBytes;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
// While a graph is captured nothing has happened yet, so there is nothing to wait for.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream && stream->captured) return failed(cudaErrorStreamCaptureUnsupported);
  if (!stream) emulation::finish_foreign_work();
  return last_error;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->captured) return failed(cudaErrorInvalidValue);
  stream->captured = new EmulatedGraph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream || !stream->captured) return failed(cudaErrorInvalidValue);
  *graph = stream->captured;
  stream->captured = nullptr;
  if ((*graph)->branches.empty()) return cudaSuccess;
  for (EmulatedStream* branch : (*graph)->branches) *branch = {};
  delete *graph;
  *graph = nullptr;
  return failed(cudaErrorStreamCaptureUnjoined);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, uint64_t) {
  *exec = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const auto& work : exec->work) {
    emulation::enqueue(stream, work);
    if (last_error != cudaSuccess) return last_error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  return cudaSuccess;
}
// A stream that waits for another becomes its branch, until the other waits for it.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  EmulatedStream* const source = event->stream;
  if (!source || !stream) return cudaSuccess;
  if (source->origin == stream) {
    source->late = false;
    for (auto& work : std::exchange(source->waiting, {})) emulation::enqueue(source, work);
    if (source->captured) std::erase(source->captured->branches, source);
    *source = {};
  } else if (!source->origin && !stream->origin) {
    stream->origin = source;
    stream->late = emulation::order_is_turned_round();
    stream->captured = source->captured;
    if (stream->captured) stream->captured->branches.push_back(stream);
  } else {
    return failed(cudaErrorInvalidValue);
  }
  return last_error;
}

// For tests: another library fills `count` floats when the device comes to it.
extern "C" __attribute__((visibility("default"))) void emulation_fill_later(float* at, float value,
                                                                            size_t count) {
  foreign_work.push_back([=] { std::fill_n(at, count, value); });
}
