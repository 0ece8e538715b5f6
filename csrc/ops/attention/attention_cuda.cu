#include <cmath>

#include "cuda/guard.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_mma.cuh"
#include "ops/attention/attention_plain.cuh"

namespace pyllmc {
namespace {

using namespace cuda;

AttentionShape shape(int64_t T, int64_t C, int64_t heads) {
  const int64_t hs = C / heads;
  return {static_cast<int>(T), static_cast<int>(C), static_cast<int>(heads), static_cast<int>(hs),
          1.0f / std::sqrt(static_cast<float>(hs))};
}

// Whether the tensor cores' kernels can read these rows 16 bytes at a time.
bool on_tensor_cores(DType type, const AttentionShape& s) {
  return type == DType::bf16 && s.hs % 8 == 0 && s.hs <= 128;
}

template <int value>
using Number = std::integral_constant<int, value>;

// Calls run(HS) with the head size rounded up.
template <class Run>
void with_padded_size(int hs, const Run& run) {
  if (hs <= 32) return run(Number<32>());
  if (hs <= 64) return run(Number<64>());
  run(Number<128>());
}

// Calls run(T(), channels of a lane).
template <class Run>
void with_plain_size(DType type, int hs, const Run& run) {
  if (hs > plain::kMostHeadSize) {
    throw UsageError(message("attention: heads of ", hs, " channels do not fit a GPU's kernels, ",
                             plain::kMostHeadSize, " do: use more heads"));
  }
  const auto with_type = [&](auto zero) {
    if (hs <= 32) return run(zero, Number<1>());
    if (hs <= 64) return run(zero, Number<2>());
    if (hs <= 128) return run(zero, Number<4>());
    run(zero, Number<8>());
  };
  type == DType::bf16 ? with_type(bf16()) : with_type(float());
}

dim3 grid_of(const AttentionShape& s, int64_t B, int rows) {
  return {static_cast<unsigned>(ceil_div(s.T, rows)), static_cast<unsigned>(s.NH),
          static_cast<unsigned>(B)};
}

void forward(const Context& context, const AttentionForward& a) {
  const int64_t B = a.out.dim(0);
  const AttentionShape s = shape(a.out.dim(1), a.out.dim(2), a.log_sum_exp.dim(1));
  if (a.out.numel() == 0) return;
  if (on_tensor_cores(a.qkv.type(), s)) {
    with_padded_size(s.hs, [&](auto HS) {
      launch("attention", tensor::forward_kernel<HS()>, grid_of(s, B, tensor::kRows),
             tensor::kThreads, tensor::kForwardBytes<HS()>, context.stream, a.qkv.as<const bf16>(),
             a.out.as<bf16>(), a.log_sum_exp.data(), s);
    });
    return;
  }
  with_plain_size(a.qkv.type(), s.hs, [&](auto zero, auto dims) {
    using T = decltype(zero);
    launch("attention", plain::forward_kernel<dims(), T>, grid_of(s, B, plain::kRows<dims()>),
           plain::kThreads, plain::shared_bytes(plain::kRows<dims()>, s.hs), context.stream,
           a.qkv.template as<const T>(), a.out.template as<T>(), a.log_sum_exp.data(), s);
  });
}

int64_t workspace(const Context&, int64_t B, int64_t T, int64_t, int64_t heads) {
  return B * heads * T;
}

template <class T>
AttentionGradients<T> gradients(const AttentionBackward& a, float* row_dot) {
  return {
      a.qkv.as<const T>(), a.out.as<const T>(), a.dout.as<const T>(), a.log_sum_exp.data(), row_dot,
      a.dqkv.as<T>()};
}

void backward(const Context& context, const AttentionBackward& a) {
  const int64_t B = a.out.dim(0);
  const AttentionShape s = shape(a.out.dim(1), a.out.dim(2), a.log_sum_exp.dim(1));
  if (a.out.numel() == 0) return;
  float* row_dot = context.scratch("attention", workspace(context, B, s.T, s.C, s.NH));
  if (on_tensor_cores(a.qkv.type(), s)) {
    const dim3 grid = grid_of(s, B, tensor::kRows);
    const auto arrays = gradients<bf16>(a, row_dot);
    with_padded_size(s.hs, [&](auto HS) {
      launch("attention, backward of queries", tensor::backward_kernel<HS(), false>, grid,
             tensor::kThreads, tensor::kBackwardBytes<HS()>, context.stream, arrays, s);
      launch("attention, backward of keys", tensor::backward_kernel<HS(), true>, grid,
             tensor::kThreads, tensor::kBackwardBytes<HS()>, context.stream, arrays, s);
    });
    return;
  }
  with_plain_size(a.qkv.type(), s.hs, [&](auto zero, auto dims) {
    using T = decltype(zero);
    constexpr int kRows = plain::kRows<dims()>;
    const dim3 grid = grid_of(s, B, kRows);
    const size_t bytes = plain::shared_bytes(kRows, s.hs);
    const auto arrays = gradients<T>(a, row_dot);
    launch("attention, backward of queries", plain::backward_kernel<dims(), false, T>, grid,
           plain::kThreads, bytes, context.stream, arrays, s);
    launch("attention, backward of keys", plain::backward_kernel<dims(), true, T>, grid,
           plain::kThreads, bytes, context.stream, arrays, s);
  });
}

void decode(const Context& context, const AttentionDecode& a) {
  const int64_t capacity = a.keys.dim(0);
  const AttentionShape s = shape(1, a.out.dim(1), a.heads);
  const size_t bytes = plain::decode_shared_bytes(capacity, s.hs);
  if (bytes > kMostSharedBytes) {
    throw UsageError(message("attention: a cache of ", capacity,
                             " positions does not fit a GPU's kernel: decode fewer"));
  }
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    launch("attention, decoding", plain::decode_kernel<T>, static_cast<unsigned>(s.NH),
           plain::kThreads, bytes, context.stream, a.qkv.template as<const T>(),
           a.keys.template as<T>(), a.values.template as<T>(), a.position, a.out.template as<T>(),
           s, capacity);
  };
  a.qkv.type() == DType::bf16 ? run(bf16()) : run(float());
}

}  // namespace

extern const AttentionKernels attention_cuda = {guarded<forward>, guarded<backward>,
                                                guarded<decode>, guarded<workspace>};

}  // namespace pyllmc
