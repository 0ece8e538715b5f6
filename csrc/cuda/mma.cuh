// Instructions that have no C++ form, of the tensor cores and of asynchronous copies above all (PTX
// ISA, "Warp-level matrix instructions" and "cp.async"), for compute capability 8.0 and later.
// tests/cuda_emulation/cuda/ has a header of the same name that follows the same fragment layouts.
//
// All are carried out by the 32 lanes of a warp together. With g = lane / 4 and c = lane % 4:
//   bf16 m16n8k16   a[0] A(g, 2c..2c+1)      a[1] A(g+8, 2c..)   a[2] A(g, 2c+8..)  a[3] A(g+8,
//   2c+8..)
//                   b[0] B(2c..2c+1, g)      b[1] B(2c+8.., g)
//   tf32 m16n8k8    a[0] A(g, c)  a[1] A(g+8, c)  a[2] A(g, c+4)  a[3] A(g+8, c+4)
//                   b[0] B(c, g)  b[1] B(c+4, g)
//   both            d[0] D(g, 2c)  d[1] D(g, 2c+1)  d[2] D(g+8, 2c)  d[3] D(g+8, 2c+1)
// A pair of bf16 has the element of the lower index in its lower half.
#pragma once

#include <cstdint>

#include "cuda/launch.cuh"

namespace pyllmc::cuda {

// d += A B.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += A B of operands made by to_tf32().
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The nearest number with ten bits of mantissa, ties away from 0.
__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// Two bf16, nearest with ties to even, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// 2^x by the special function unit: off by 2 units in the last place, 0 where that is below 2^-126.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// To about 2^-11 of its value.
__device__ __forceinline__ float tanh_approximate(float x) {
  float result;
  asm("tanh.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// The same address, held in a register instead of computed anew at every use. For memory that only
// the functions below touch: the compiler no longer knows that it is shared.
template <class T>
__device__ __forceinline__ T* held(T* shared) {
  asm volatile("" : "+l"(shared));
  return shared;
}

// Four 8x8 matrices of 16-bit elements from shared memory: lanes 8i to 8i+7 name the eight rows of
// matrix i (16 bytes each, 16-byte aligned); r[i] holds its elements (g, 2c) and (g, 2c+1).
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same with every matrix transposed: r[i] holds the elements (2c, g) and (2c+1, g).
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// Two matrices, of the rows that lanes 0 to 15 name.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Begins to copy 16 bytes from device to shared memory, both 16-byte aligned. What lies past the
// first `bytes` (0 to 16) of the source is not read: zeros are written for it.
__device__ __forceinline__ void copy_async(void* shared, const void* global, int bytes = 16) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes)
      : "memory");
}
// The same for 4 bytes, 4-byte aligned.
__device__ __forceinline__ void copy_async_4(void* shared, const void* global, int bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes)
               : "memory");
}
// Closes the group of copies begun by this thread since the last call.
__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Waits until at most the latest N groups of this thread are under way. What other threads copied
// is visible after a barrier behind it.
template <int N>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

}  // namespace pyllmc::cuda
