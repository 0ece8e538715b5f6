// Stands in for the CUDA runtime where the project's kernels are compiled for the CPU: the part of
// its language and of its interface that they use. Kernels run one block after another, the threads
// of a block as fibers of one thread of the host (block.cpp); device memory is host memory that the
// host cannot touch directly (memory.cpp); a stream runs what it is given at once, or records it
// while a graph is captured (runtime.cpp).
//
// What hardware would punish or leave undefined is an error here, told by cudaGetLastError() and
// cudaGetErrorString(): barriers that not all threads reach, lanes that meet in different warp
// operations, misaligned vectors, copies from outside of memory, shared memory past the launch's
// bytes, writes around an allocation, more shared memory than every card grants, a recording with
// an open branch. Memory starts as NaN. The order of threads and blocks, and of a branch and its
// origin, can be turned round (PYLLMC_EMULATION_ORDER), so that races show as different bits.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

// ---- kernels ----

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);

namespace emulation {

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Every lane of the calling warp brings a pointer; the last to arrive does `work` on all 32.
using WarpWork = void (*)(void** lanes);
void meet(WarpWork work, void* mine, const char* name);

template <class T>
struct Exchange {
  T value, result;
  int argument, width;
};

template <class T, class Source>
T shuffle(unsigned mask, T value, int argument, int width, const char* name, Source) {
  if (mask != 0xffffffffu) fail("%s with the mask %08x: only full warps are known", name, mask);
  Exchange<T> mine = {value, value, argument, width};
  meet(
      [](void** lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          auto& own = *static_cast<Exchange<T>*>(lanes[lane]);
          const int base = lane / own.width * own.width;
          const int from = Source::of(lane - base, own.argument, own.width);
          own.result = static_cast<Exchange<T>*>(lanes[base + from])->value;
        }
      },
      &mine, name);
  return mine.result;
}

struct FromXor {
  static int of(int lane, int mask, int width) {
    return (lane ^ mask) < width ? lane ^ mask : lane;
  }
};
struct FromAbove {
  static int of(int lane, int delta, int width) {
    return lane + delta < width ? lane + delta : lane;
  }
};

}  // namespace emulation

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return emulation::shuffle(mask, value, lanes, width, __func__, emulation::FromXor());
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32) {
  return emulation::shuffle(mask, value, delta, width, __func__, emulation::FromAbove());
}

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
using std::isfinite;
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

// ---- the host's side ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorLaunchFailure = 719,
};
const char* cudaGetErrorName(cudaError_t status);
const char* cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

using cudaStream_t = struct EmulatedStream*;
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;
using cudaEvent_t = struct EmulatedEvent*;

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDefault };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributePreferredSharedMemoryCarveout
};
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0;

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
};

cudaError_t cudaMalloc(void** at, size_t bytes);
template <class T>
cudaError_t cudaMalloc(T** at, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(at), bytes);
}
cudaError_t cudaFree(void* at);
cudaError_t cudaHostAlloc(void** at, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* at);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* at, int value, size_t bytes);

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, uint64_t flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
