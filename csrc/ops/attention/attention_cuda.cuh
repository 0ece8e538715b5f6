// What the attention kernels share: where a head lies, and what every launch is told.
#pragma once

#include "cuda/kernel_tools.cuh"

namespace pyllmc::cuda {

// Sizes of one call; hs = C / NH.
struct AttentionShape {
  int T, C, NH, hs;
  float scale;  // 1 / sqrt(hs)
};

// The three parts of one head's rows in qkv (B, T, 3C), or in its gradient.
template <class T>
struct HeadRows {
  T *q, *k, *v;
  int64_t pitch;  // elements from one position to the next
  __device__ __forceinline__ HeadRows(T* qkv, const AttentionShape& s, int b, int h)
      : q(qkv + int64_t{b} * s.T * 3 * s.C + h * s.hs),
        k(q + s.C),
        v(q + 2 * s.C),
        pitch(3 * int64_t{s.C}) {}
};

// The rows of one head in out or dout (B, T, C): position t at t * s.C.
template <class T>
__device__ __forceinline__ T* head_rows(T* out, const AttentionShape& s, int b, int h) {
  return out + int64_t{b} * s.T * s.C + h * s.hs;
}

// The numbers of one head in log_sum_exp or row_dot (B, NH, T).
template <class T>
__device__ __forceinline__ T* head_numbers(T* numbers, const AttentionShape& s, int b, int h) {
  return numbers + (int64_t{b} * s.NH + h) * s.T;
}

// Arguments of the two passes of backward. row_dot (B, NH, T) is out . dout: the pass over queries
// writes it, the pass over keys reads it.
template <class T>
struct AttentionGradients {
  const T *qkv, *out, *dout;
  const float* log_sum_exp;
  float* row_dot;
  T* dqkv;
};

}  // namespace pyllmc::cuda
