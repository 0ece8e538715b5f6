// What kernels share: element types, 16-byte loads and stores, sums and maxima over warps and
// blocks. Every reduction has one fixed order.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/mma.cuh"

namespace pyllmc::cuda {

constexpr int kWarp = 32;

// The upper half of an fp32.
struct bf16 {
  uint16_t bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ __forceinline__ float low_float(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_float(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return {static_cast<uint16_t>(pack_bf16(x, 0.0f))};
}

// The eight bf16, or four fp32, of 16 bytes.
__device__ __forceinline__ void unpack_bf16(const uint4& bits, float* x) {
  x[0] = low_float(bits.x), x[1] = high_float(bits.x);
  x[2] = low_float(bits.y), x[3] = high_float(bits.y);
  x[4] = low_float(bits.z), x[5] = high_float(bits.z);
  x[6] = low_float(bits.w), x[7] = high_float(bits.w);
}
__device__ __forceinline__ void unpack(const uint4& bits, float (&x)[8]) { unpack_bf16(bits, x); }
__device__ __forceinline__ void unpack(const uint4& bits, float (&x)[4]) {
  x[0] = __uint_as_float(bits.x), x[1] = __uint_as_float(bits.y);
  x[2] = __uint_as_float(bits.z), x[3] = __uint_as_float(bits.w);
}

// N consecutive elements as floats (1, 4, 8, 16, ...). The address is aligned to N elements, or to
// 16 bytes.
template <int N>
__device__ __forceinline__ void load(const float* at, float (&x)[N]) {
  static_assert(N == 1 || N % 4 == 0);
  if constexpr (N == 1) {
    x[0] = *at;
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 v = load_vector<float4>(at + i);
      x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
    }
  }
}
template <int N>
__device__ __forceinline__ void load(const bf16* at, float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N % 8 == 0);
  if constexpr (N == 1) {
    x[0] = to_float(*at);
  } else if constexpr (N == 4) {
    const uint2 v = load_vector<uint2>(at);
    x[0] = low_float(v.x), x[1] = high_float(v.x);
    x[2] = low_float(v.y), x[3] = high_float(v.y);
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 8) unpack_bf16(load_vector<uint4>(at + i), x + i);
  }
}
template <int N>
__device__ __forceinline__ void store(float* at, const float (&x)[N]) {
  static_assert(N == 1 || N % 4 == 0);
  if constexpr (N == 1) {
    *at = x[0];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      store_vector(at + i, make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]));
    }
  }
}
template <int N>
__device__ __forceinline__ void store(bf16* at, const float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N % 8 == 0);
  if constexpr (N == 1) {
    *at = from_float<bf16>(x[0]);
  } else if constexpr (N == 4) {
    store_vector(at, make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])));
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 8) {
      store_vector(at + i,
                   make_uint4(pack_bf16(x[i], x[i + 1]), pack_bf16(x[i + 2], x[i + 3]),
                              pack_bf16(x[i + 4], x[i + 5]), pack_bf16(x[i + 6], x[i + 7])));
    }
  }
}

// Over the lanes of a warp; every lane gets the result.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  }
  return x;
}

// Over the threads of a block (a multiple of kWarp, at most 1024); every thread gets the result.
// `scratch` are 32 elements of shared memory that nobody else uses until the next barrier.
template <class T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_sum(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : T(0));
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? scratch[lane] : scratch[0]);
}

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace pyllmc::cuda
