// Twin of csrc/cuda/mma.cuh: the fragment layouts are those of the PTX ISA. Sums are taken in fp32
// in the order of k; the hardware's order and rounding are not documented.
#pragma once

#include "core/bf16.h"
#include "cuda/launch.cuh"

namespace pyllmc::cuda {

namespace emulated {

struct Fragments {
  float* d;
  const uint32_t *a, *b;
};

// D (16, 8) += A (16, K) B (K, 8), gathered from and returned to 32 lanes.
template <int K>
void multiply(void** lanes, float (&A)[16][K], float (&B)[K][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    float* d = static_cast<Fragments*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
      for (int k = 0; k < K; ++k) d[i] += A[row][k] * B[k][col];
    }
  }
}

inline void multiply_bf16(void** lanes) {
  float A[16][16], B[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<Fragments*>(lanes[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      for (int half = 0; half < 2; ++half) {
        A[group + i % 2 * 8][pair + half + i / 2 * 8] =
            float_from_bf16(static_cast<uint16_t>(own.a[i] >> (16 * half)));
      }
    }
    for (int i = 0; i < 2; ++i) {
      for (int half = 0; half < 2; ++half) {
        B[pair + half + i * 8][group] =
            float_from_bf16(static_cast<uint16_t>(own.b[i] >> (16 * half)));
      }
    }
  }
  multiply(lanes, A, B);
}

inline void multiply_tf32(void** lanes) {
  const auto value = [](uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); };
  float A[16][8], B[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<Fragments*>(lanes[lane]);
    const int group = lane / 4, in_group = lane % 4;
    for (int i = 0; i < 4; ++i) A[group + i % 2 * 8][in_group + i / 2 * 4] = value(own.a[i]);
    for (int i = 0; i < 2; ++i) B[in_group + i * 4][group] = value(own.b[i]);
  }
  multiply(lanes, A, B);
}

struct MatrixRow {
  uint32_t* r;
  const unsigned char* row;
};

template <int N, bool kTransposed>
void load_matrices(void** lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    auto& own = *static_cast<MatrixRow*>(lanes[lane]);
    for (int i = 0; i < N; ++i) {
      uint16_t halves[2];
      for (int half = 0; half < 2; ++half) {
        const int first = lane / 4, second = lane % 4 * 2 + half;
        const int row = kTransposed ? second : first, col = kTransposed ? first : second;
        std::memcpy(&halves[half], static_cast<MatrixRow*>(lanes[8 * i + row])->row + 2 * col, 2);
      }
      own.r[i] = halves[0] | uint32_t{halves[1]} << 16;
    }
  }
}

template <int N, bool kTransposed>
void load_matrices(uint32_t (&r)[N], const void* row) {
  if (static_cast<int>(threadIdx.x % 32) < 8 * N) {
    emulation::require_shared(row, 16, 16, "ldmatrix");
  }
  MatrixRow mine = {r, static_cast<const unsigned char*>(row)};
  emulation::meet(load_matrices<N, kTransposed>, &mine, "ldmatrix");
}

}  // namespace emulated

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::Fragments mine = {d, a, b};
  emulation::meet(emulated::multiply_bf16, &mine, "mma of bf16");
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::Fragments mine = {d, a, b};
  emulation::meet(emulated::multiply_tf32, &mine, "mma of tf32");
}

inline uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  return std::isfinite(value) ? (bits + 0x1000u) & 0xffffe000u : bits;
}
inline uint32_t pack_bf16(float low, float high) {
  return bf16_from_float(low) | uint32_t{bf16_from_float(high)} << 16;
}

inline float fast_exp2(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0 : y;
}
template <class T>
T* held(T* shared) {
  return shared;
}

inline float tanh_approximate(float x) { return std::tanh(x); }

template <int N>
void load_matrices(uint32_t (&r)[N], const void* row) {
  emulated::load_matrices<N, false>(r, row);
}
template <int N>
void load_matrices_transposed(uint32_t (&r)[N], const void* row) {
  emulated::load_matrices<N, true>(r, row);
}

inline void copy_async(void* shared, const void* global, int bytes = 16) {
  emulation::begin_copy(shared, global, 16, static_cast<size_t>(bytes));
}
inline void copy_async_4(void* shared, const void* global, int bytes = 4) {
  emulation::begin_copy(shared, global, 4, static_cast<size_t>(bytes));
}
inline void copy_commit() { emulation::commit_copies(); }
template <int N>
void copy_wait() {
  emulation::wait_copies(N);
}

}  // namespace pyllmc::cuda
