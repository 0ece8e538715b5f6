// The library's entry point and its runtime: memory, streams, copies and graphs.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "core/device_library.h"
#include "cuda/gemm.h"
#include "cuda/guard.h"
#include "cuda/side_stream.h"
#include "cuda/tables.h"

#ifndef PYLLMC_CUDA_BUILD
#define PYLLMC_CUDA_BUILD "unknown"
#endif

namespace pyllmc::cuda {
namespace {

struct KeptError {
  std::mutex mutex;
  std::string first, taken;
};

KeptError& kept_error() {
  static KeptError error;
  return error;
}

// A failed call of the CUDA runtime: its message is kept, and the runtime's own memory of it
// cleared.
DeviceStatus status_of(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) return DeviceStatus::ok;
  cudaGetLastError();
  keep_error(
      message(doing, ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code), ")").c_str());
  return code == cudaErrorMemoryAllocation ? DeviceStatus::out_of_memory : DeviceStatus::failed;
}

const char* take_error() {
  KeptError& error = kept_error();
  const std::lock_guard lock(error.mutex);
  if (error.first.empty()) return nullptr;
  error.taken.swap(error.first);
  error.first.clear();
  return error.taken.c_str();
}

DeviceStatus facts(DeviceFacts* out) {
  *out = {};
  int devices = 0;
  cudaError_t code = cudaGetDeviceCount(&devices);
  if (code != cudaSuccess) return status_of(code, "looking for a GPU");
  cudaDeviceProp properties;
  code = cudaGetDeviceProperties(&properties, 0);
  if (code != cudaSuccess) return status_of(code, "asking for the GPU's properties");
  size_t free = 0, total = 0;
  code = cudaMemGetInfo(&free, &total);
  if (code != cudaSuccess) return status_of(code, "asking for the GPU's memory");
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  std::snprintf(out->name, sizeof out->name, "%s", properties.name);
  std::snprintf(out->runtime, sizeof out->runtime, "CUDA %d.%d, driver for %d.%d", runtime / 1000,
                runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
  std::snprintf(out->blas, sizeof out->blas, "%s", gemm_name().c_str());
  out->capability = properties.major * 10 + properties.minor;
  out->multiprocessors = properties.multiProcessorCount;
  out->memory_total = static_cast<int64_t>(total);
  out->memory_free = static_cast<int64_t>(free);
  return DeviceStatus::ok;
}

DeviceStatus allocate(int64_t bytes, void** out) {
  cudaError_t code = cudaMalloc(out, static_cast<size_t>(bytes));
  if (code != cudaSuccess) return status_of(code, "allocating GPU memory");
  // On the null stream, which our streams do not wait for.
  code = cudaMemset(*out, 0, static_cast<size_t>(bytes));
  if (code == cudaSuccess) code = cudaStreamSynchronize(nullptr);
  if (code != cudaSuccess) cudaFree(*out);
  return status_of(code, "zeroing GPU memory");
}

DeviceStatus allocate_host(int64_t bytes, void** out) {
  const cudaError_t code = cudaHostAlloc(out, static_cast<size_t>(bytes), cudaHostAllocDefault);
  if (code != cudaSuccess) return status_of(code, "allocating page-locked memory");
  std::memset(*out, 0, static_cast<size_t>(bytes));
  return DeviceStatus::ok;
}

void release(void* at) { status_of(cudaFree(at), "freeing GPU memory"); }
void release_host(void* at) { status_of(cudaFreeHost(at), "freeing page-locked memory"); }

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

DeviceStatus make_stream(void** out) {
  cudaStream_t stream = nullptr;
  const cudaError_t code = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  *out = stream;
  return status_of(code, "making a stream");
}

void release_stream(void* stream) {
  release_side_stream(stream);
  status_of(cudaStreamDestroy(stream_of(stream)), "ending a stream");
}

DeviceStatus copy(void* to, const void* from, int64_t bytes, void* stream) {
  return status_of(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_of(stream)),
      "copying");
}

DeviceStatus zero(void* at, int64_t bytes, void* stream) {
  return status_of(cudaMemsetAsync(at, 0, static_cast<size_t>(bytes), stream_of(stream)),
                   "zeroing");
}

DeviceStatus synchronize(void* stream) {
  return status_of(cudaStreamSynchronize(stream_of(stream)), "running");
}

DeviceStatus begin_graph(void* stream) {
  return status_of(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal),
                   "recording");
}

// A recording that went wrong is ended too; out is null then.
DeviceStatus end_graph(void* stream, void** out) {
  *out = nullptr;
  cudaGraph_t graph = nullptr;
  cudaError_t code = cudaStreamEndCapture(stream_of(stream), &graph);
  if (code != cudaSuccess) return status_of(code, "ending a recording");
  cudaGraphExec_t executable = nullptr;
  code = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  *out = executable;
  return status_of(code, "making a graph");
}

DeviceStatus launch_graph(void* graph, void* stream) {
  return status_of(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream)),
                   "starting a graph");
}

void release_graph(void* graph) {
  status_of(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)), "ending a graph");
}

constexpr DeviceRuntime kRuntime = {take_error, facts,        allocate,     allocate_host,
                                    release,    release_host, make_stream,  release_stream,
                                    copy,       zero,         synchronize,  begin_graph,
                                    end_graph,  launch_graph, release_graph};

template <class Kernels>
DeviceTable table(const char* op, const Kernels& kernels) {
  return {op, &kernels, static_cast<int64_t>(sizeof(Kernels))};
}

}  // namespace

void keep_error(const char* text) noexcept {
  try {
    KeptError& error = kept_error();
    const std::lock_guard lock(error.mutex);
    if (error.first.empty()) error.first = text;
  } catch (...) {  // no memory for a message: the failed status remains
  }
}

const DeviceLibrary& library() {
  static const DeviceTable tables[] = {
      table("attention", attention_cuda), table("classifier", classifier_cuda),
      table("convert", convert_cuda),     table("embedding", embedding_cuda),
      table("layernorm", layernorm_cuda), table("linear", linear_cuda),
      table("adamw", adamw_cuda)};
  static const DeviceLibrary all = {kDeviceInterface, PYLLMC_CUDA_BUILD, &kRuntime, tables,
                                    static_cast<int32_t>(sizeof tables / sizeof *tables)};
  return all;
}

}  // namespace pyllmc::cuda

extern "C" __attribute__((visibility("default"))) const pyllmc::DeviceLibrary*
pyllmc_device_library() {
  return &pyllmc::cuda::library();
}
