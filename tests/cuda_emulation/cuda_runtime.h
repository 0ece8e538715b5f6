// Stands in for the CUDA runtime where the project's kernels are compiled for the CPU: the part of
// its language and of its interface that they use. Kernels run one block after another, the threads
// of a block as fibers of one thread of the host (block.cpp); device memory is host memory that the
// host cannot touch directly (memory.cpp); a stream runs what it is given at once, or records it
// while a graph is captured (runtime.cpp).
//
// What hardware would punish or leave undefined is an error here, told by cudaGetLastError() and
// cudaGetErrorString(): barriers that not all threads reach, lanes that meet in different warp
// operations, misaligned vectors, shared memory past the launch's bytes, writes around an
// allocation, more shared memory than every card grants, a recording with an open branch. Memory
// starts as NaN. The order of threads and blocks, and of a branch and its origin, can be turned
// round (PYLLMC_EMULATION_ORDER), so that races show as different bits.
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
inline void __threadfence() {}
inline void __threadfence_block() {}

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

struct FromLane {
  static int of(int, int source, int width) { return source % width; }
};
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
struct FromBelow {
  static int of(int lane, int delta, int) { return lane - delta >= 0 ? lane - delta : lane; }
};

struct Vote {
  bool given;
  unsigned result;
};
inline unsigned ballot(bool given, const char* name) {
  Vote mine = {given, 0};
  meet(
      [](void** lanes) {
        unsigned bits = 0;
        for (int lane = 0; lane < 32; ++lane) {
          bits |= unsigned{static_cast<Vote*>(lanes[lane])->given} << lane;
        }
        for (int lane = 0; lane < 32; ++lane) static_cast<Vote*>(lanes[lane])->result = bits;
      },
      &mine, name);
  return mine.result;
}

}  // namespace emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return emulation::shuffle(mask, value, source, width, __func__, emulation::FromLane());
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return emulation::shuffle(mask, value, lanes, width, __func__, emulation::FromXor());
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32) {
  return emulation::shuffle(mask, value, delta, width, __func__, emulation::FromAbove());
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32) {
  return emulation::shuffle(mask, value, delta, width, __func__, emulation::FromBelow());
}
inline unsigned __ballot_sync(unsigned, bool given) { return emulation::ballot(given, __func__); }
inline bool __any_sync(unsigned, bool given) { return emulation::ballot(given, __func__) != 0; }
inline bool __all_sync(unsigned, bool given) {
  return emulation::ballot(given, __func__) == 0xffffffffu;
}

// Whole numbers only: sums of floats by atomics have no fixed order.
template <class T>
  requires std::is_integral_v<T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
template <class T>
  requires std::is_integral_v<T>
T atomicOr(T* at, T value) {
  const T before = *at;
  *at |= value;
  return before;
}
template <class T>
  requires std::is_integral_v<T>
T atomicMax(T* at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline float __int_as_float(int32_t bits) { return std::bit_cast<float>(bits); }
inline int32_t __float_as_int(float x) { return std::bit_cast<int32_t>(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
using std::isfinite, std::isinf, std::isnan;
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, T value) {
  *at = value;
}

// ---- the host's side ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
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

enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributePreferredSharedMemoryCarveout
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrL2CacheSize
};
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
constexpr unsigned cudaEventDefault = 0, cudaHostAllocDefault = 0;

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlockOptin;
  int major, minor, multiProcessorCount, l2CacheSize;
};

cudaError_t cudaMalloc(void** at, size_t bytes);
template <class T>
cudaError_t cudaMalloc(T** at, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(at), bytes);
}
cudaError_t cudaFree(void* at);
cudaError_t cudaMallocHost(void** at, size_t bytes);
template <class T>
cudaError_t cudaMallocHost(T** at, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(at), bytes);
}
cudaError_t cudaHostAlloc(void** at, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* at);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* at, int value, size_t bytes);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream = nullptr);

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceSynchronize();
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, uint64_t flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
