// What becomes of the sums of x w^T or dy w before they are written: bias, residual, GELU, and the
// derivative of the GELU before. Shared by the linear kernels of a GPU.
#pragma once

#include "cuda/kernel_tools.cuh"
#include "ops/linear/linear.h"

namespace pyllmc::cuda {

struct Finish {
  void* out;               // (M, N)
  const float* bias;       // (N) or null
  const float* residual;   // (M, N) or null; then out is fp32
  void* gelu;              // (M, N) of out's type, or null
  const void* activation;  // (M, N) of out's type, or null
  bool is_bf16;            // out
  int M, N;
};

inline Finish finish_of(const LinearForward& a) {
  return {.out = a.y.data(),
          .bias = a.b.data(),
          .residual = a.residual.data(),
          .gelu = a.gelu.data(),
          .activation = nullptr,
          .is_bf16 = a.y.type() == DType::bf16,
          .M = static_cast<int>(a.y.dim(0)),
          .N = static_cast<int>(a.y.dim(1))};
}
inline Finish finish_of(const LinearBackward& a) {
  return {.out = a.dx.data(),
          .bias = nullptr,
          .residual = nullptr,
          .gelu = nullptr,
          .activation = a.activation.data(),
          .is_bf16 = a.dx.type() == DType::bf16,
          .M = static_cast<int>(a.dx.dim(0)),
          .N = static_cast<int>(a.dx.dim(1))};
}

// s in gelu(x) = x s(x) = x / (1 + e^{-2u}), u = sqrt(2/pi) (x + 0.044715 x^3). bf16 is content
// with the hardware's tanh: s = (1 + tanh u) / 2 to 2^-12.
template <bool kBf16>
__device__ __forceinline__ float gelu_gate(float x) {
  const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
  if constexpr (kBf16) return 0.5f + 0.5f * tanh_approximate(u);
  return 1.0f / (1.0f + expf(-2.0f * u));
}
template <bool kBf16>
__device__ __forceinline__ float gelu(float x) {
  return x * gelu_gate<kBf16>(x);
}
template <bool kBf16>
__device__ __forceinline__ float gelu_derivative(float x) {
  const float s = gelu_gate<kBf16>(x);
  const float du = 0.7978845608f * (1.0f + 3.0f * 0.044715f * x * x);
  return s + x * s * (1.0f - s) * 2.0f * du;
}

// N neighbours of a row (1 or 4), wherever they come from. T is the element of out; with N = 4 its
// rows are whole fours.
template <class T, int N>
__device__ __forceinline__ void finish_values(const Finish& f, int64_t row, int64_t col,
                                              float (&value)[N]) {
  constexpr bool kBf16 = sizeof(T) == 2;
  const int64_t at = row * f.N + col;
  float other[N];
  if (f.bias) {
    load(f.bias + col, other);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] += other[i];
  }
  if (f.residual) {
    load(f.residual + at, other);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] += other[i];
  }
  if (f.activation) {
    load(static_cast<const T*>(f.activation) + at, other);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= gelu_derivative<kBf16>(other[i]);
  }
  store(static_cast<T*>(f.out) + at, value);
  if (f.gelu) {
#pragma unroll
    for (int i = 0; i < N; ++i) other[i] = gelu<kBf16>(value[i]);
    store(static_cast<T*>(f.gelu) + at, other);
  }
}
__device__ __forceinline__ void finish_value(const Finish& f, int64_t row, int64_t col,
                                             float value) {
  float values[1] = {value};
  f.is_bf16 ? finish_values<bf16>(f, row, col, values) : finish_values<float>(f, row, col, values);
}

}  // namespace pyllmc::cuda
