// How a kernel is started and how it reaches memory. tests/cuda_emulation/cuda/ has a header of the
// same name that runs kernels on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/check.h"
#include "cuda/limits.h"

namespace pyllmc::cuda {

// What every supported card grants a block (compute capability 8.6 and 8.9 have the least).
constexpr size_t kMostSharedBytes = 99 * 1024;

// Enqueues kernel(args...) with `shared_bytes` of dynamic shared memory. Blocks are whole warps.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            void* stream, const Args&... args) {
  constexpr size_t kGrantedUnasked = 48 * 1024;
  if (shared_bytes > kGrantedUnasked) {
    // All that there is, not this launch's: the limit is the kernel's, and a graph may hold
    // launches of several sizes.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes_granted())),
          name);
    // As many blocks at once as fit, whatever that leaves of the first-level cache.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          name);
  }
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Params>(args)...);
  check(cudaGetLastError(), name);
}

// The block's dynamic shared memory, 128-byte aligned. T is what the launch counted the bytes of:
// a struct, or the element of an array.
template <class T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(128) unsigned char pyllmc_shared_memory[];
  return reinterpret_cast<T*>(pyllmc_shared_memory);
}

// One access of sizeof(V) bytes (V: float4, uint4, uint2, ...); the address is aligned to as many.
template <class V>
__device__ __forceinline__ V load_vector(const void* at) {
  return *static_cast<const V*>(at);
}
template <class V>
__device__ __forceinline__ void store_vector(void* at, const V& v) {
  *static_cast<V*>(at) = v;
}

}  // namespace pyllmc::cuda
