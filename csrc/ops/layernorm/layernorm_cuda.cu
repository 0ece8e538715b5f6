#include "cuda/guard.h"
#include "cuda/kernel_tools.cuh"
#include "ops/layernorm/layernorm.h"

namespace pyllmc {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kEach = 4;  // channels of a lane that lie side by side
constexpr int kPackWidth = kWarp * kEach;
constexpr int kMostPacks = 8;         // rows of more channels are read again where needed
constexpr int64_t kMostBlocks = 256;  // of backward: parts of dweight and dbias

// Whether a row is kept in registers, kEach channels at a time.
bool fits_registers(int64_t C) { return C % kEach == 0 && C <= kMostPacks * kPackWidth; }

// A warp a row, the row in registers.
template <int kPacks, class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const float* __restrict__ x, const float* __restrict__ weight,
                   const float* __restrict__ bias, T* __restrict__ y, float* mean_out,
                   float* rstd_out, int64_t rows, int C) {
  const int lane = threadIdx.x % kWarp;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  float held[kPacks][kEach], sum = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int c = p * kPackWidth + lane * kEach;
    if (c < C) {
      load(x + row * C + c, held[p]);
    } else {
      for (float& value : held[p]) value = 0;
    }
    for (float value : held[p]) sum += value;
  }
  const float mean = warp_sum(sum) / static_cast<float>(C);
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (p * kPackWidth + lane * kEach >= C) continue;
    for (float value : held[p]) squares += (value - mean) * (value - mean);
  }
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(C) + kLayerNormEpsilon);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int c = p * kPackWidth + lane * kEach;
    if (c >= C) continue;
    float w[kEach], b[kEach];
    load(weight + c, w);
    load(bias + c, b);
#pragma unroll
    for (int i = 0; i < kEach; ++i) w[i] = (held[p][i] - mean) * rstd * w[i] + b[i];
    store(y + row * C + c, w);
  }
  if (lane == 0) {
    mean_out[row] = mean;
    rstd_out[row] = rstd;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_any_kernel(const float* __restrict__ x, const float* __restrict__ weight,
                       const float* __restrict__ bias, T* __restrict__ y, float* mean_out,
                       float* rstd_out, int64_t rows, int C) {
  const int lane = threadIdx.x % kWarp;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  const float* in = x + row * C;
  float sum = 0, squares = 0;
  for (int c = lane; c < C; c += kWarp) sum += in[c];
  const float mean = warp_sum(sum) / static_cast<float>(C);
  for (int c = lane; c < C; c += kWarp) squares += (in[c] - mean) * (in[c] - mean);
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(C) + kLayerNormEpsilon);
  for (int c = lane; c < C; c += kWarp) {
    y[row * C + c] = from_float<T>((in[c] - mean) * rstd * weight[c] + bias[c]);
  }
  if (lane == 0) {
    mean_out[row] = mean;
    rstd_out[row] = rstd;
  }
}

template <class T>
struct BackwardArrays {
  const T* dy;
  const float *x, *weight, *mean, *rstd;
  float* dx;
  T* dx_copy;
  float* parts;  // (blocks, 2, C): dweight and dbias of a block's rows
};

// dx += rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight, xhat = (x - mean) rstd. A warp
// takes every kWarps-th row of its block's; the block adds up the warps' sums in order.
template <int kPacks, class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(BackwardArrays<T> a, int64_t rows, int rows_of_block, int C) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t begin = int64_t{blockIdx.x} * rows_of_block;
  const int64_t end = min(rows, begin + rows_of_block);
  float dweight[kPacks][kEach] = {}, dbias[kPacks][kEach] = {};
  for (int64_t row = begin + warp; row < end; row += kWarps) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    float g[kPacks][kEach], normalized[kPacks][kEach], dx[kPacks][kEach];
    float g_sum = 0, gx_sum = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int c = p * kPackWidth + lane * kEach;
      if (c >= C) continue;
      float w[kEach];
      load(a.weight + c, w);
      load(a.x + row * C + c, normalized[p]);
      load(a.dy + row * C + c, g[p]);
      load(a.dx + row * C + c, dx[p]);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        normalized[p][i] = (normalized[p][i] - mean) * rstd;
        dweight[p][i] += g[p][i] * normalized[p][i];
        dbias[p][i] += g[p][i];
        g[p][i] *= w[i];
        g_sum += g[p][i];
        gx_sum += g[p][i] * normalized[p][i];
      }
    }
    const float g_mean = warp_sum(g_sum) / static_cast<float>(C);
    const float gx_mean = warp_sum(gx_sum) / static_cast<float>(C);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int c = p * kPackWidth + lane * kEach;
      if (c >= C) continue;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        dx[p][i] += rstd * (g[p][i] - g_mean - normalized[p][i] * gx_mean);
      }
      store(a.dx + row * C + c, dx[p]);
      if (a.dx_copy) store(a.dx_copy + row * C + c, dx[p]);
    }
  }
  auto* sums = shared_memory<float>();  // (kWarps, kPackWidth)
#pragma unroll
  for (int part = 0; part < 2 * kPacks; ++part) {
    const int p = part / 2;
    __syncthreads();
    store(sums + threadIdx.x * kEach, part % 2 ? dbias[p] : dweight[p]);
    __syncthreads();
    const int c = p * kPackWidth + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kPackWidth && c < C) {
      float sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += sums[w * kPackWidth + threadIdx.x];
      a.parts[(int64_t{blockIdx.x} * 2 + part % 2) * C + c] = sum;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_any_kernel(BackwardArrays<T> a, int64_t rows, int rows_of_block, int C) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t begin = int64_t{blockIdx.x} * rows_of_block;
  const int64_t end = min(rows, begin + rows_of_block);
  for (int64_t row = begin + warp; row < end; row += kWarps) {
    const T* dy = a.dy + row * C;
    const float* x = a.x + row * C;
    const float mean = a.mean[row], rstd = a.rstd[row];
    float g_sum = 0, gx_sum = 0;
    for (int c = lane; c < C; c += kWarp) {
      const float g = to_float(dy[c]) * a.weight[c];
      g_sum += g;
      gx_sum += g * (x[c] - mean) * rstd;
    }
    const float g_mean = warp_sum(g_sum) / static_cast<float>(C);
    const float gx_mean = warp_sum(gx_sum) / static_cast<float>(C);
    for (int c = lane; c < C; c += kWarp) {
      const float g = to_float(dy[c]) * a.weight[c], normalized = (x[c] - mean) * rstd;
      const float dx = a.dx[row * C + c] + rstd * (g - g_mean - normalized * gx_mean);
      a.dx[row * C + c] = dx;
      if (a.dx_copy) a.dx_copy[row * C + c] = from_float<T>(dx);
    }
  }
  for (int c = threadIdx.x; c < C; c += kThreads) {
    float dweight = 0, dbias = 0;
    for (int64_t row = begin; row < end; ++row) {
      const float dy = to_float(a.dy[row * C + c]);
      dweight += dy * (a.x[row * C + c] - a.mean[row]) * a.rstd[row];
      dbias += dy;
    }
    a.parts[int64_t{blockIdx.x} * 2 * C + c] = dweight;
    a.parts[(int64_t{blockIdx.x} * 2 + 1) * C + c] = dbias;
  }
}

// Adds the blocks' parts to dweight and dbias: a block owns kWarp of the 2C columns, its warps take
// turns over the parts.
constexpr int kSumThreads = 1024, kSumWarps = kSumThreads / kWarp;
__global__ void __launch_bounds__(kSumThreads)
    add_parts_kernel(const float* __restrict__ parts, int count, int C, float* __restrict__ dweight,
                     float* __restrict__ dbias) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < 2 * C) {
#pragma unroll 8
    for (int part = warp; part < count; part += kSumWarps) {
      sum += parts[int64_t{part} * 2 * C + column];
    }
  }
  auto* sums = shared_memory<float>();  // (kSumWarps, kWarp)
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp != 0 || column >= 2 * C) return;
  for (int w = 1; w < kSumWarps; ++w) sum += sums[w * kWarp + lane];
  float* out = column < C ? dweight + column : dbias + column - C;
  *out += sum;
}

// Calls run(T(), packs) with packs an integral constant, 0 for rows that are not kept in registers.
template <class T, class Run>
void with_packs(int64_t C, const Run& run) {
  const int64_t packs = ceil_div(C, kPackWidth);
  if (!fits_registers(C)) return run(T(), std::integral_constant<int, 0>());
  if (packs <= 1) return run(T(), std::integral_constant<int, 1>());
  if (packs <= 2) return run(T(), std::integral_constant<int, 2>());
  if (packs <= 4) return run(T(), std::integral_constant<int, 4>());
  if (packs <= 6) return run(T(), std::integral_constant<int, 6>());
  run(T(), std::integral_constant<int, kMostPacks>());
}
template <class Run>
void with_type_and_packs(DType type, int64_t C, const Run& run) {
  type == DType::bf16 ? with_packs<bf16>(C, run) : with_packs<float>(C, run);
}

void forward(const Context& context, const LayerNormForward& a) {
  const int64_t rows = a.x.dim(0), C = a.x.dim(1);
  if (rows == 0) return;
  with_type_and_packs(a.y.type(), C, [&](auto zero, auto packs) {
    using T = decltype(zero);
    auto* kernel = forward_any_kernel<T>;
    if constexpr (packs() > 0) kernel = forward_kernel<packs(), T>;
    launch("layernorm", kernel, static_cast<unsigned>(ceil_div(rows, kWarps)), kThreads, 0,
           context.stream, a.x.data(), a.weight.data(), a.bias.data(), a.y.template as<T>(),
           a.mean.data(), a.rstd.data(), rows, C);
  });
}

// How backward's rows are cut: a row a warp until there are kMostBlocks blocks.
int64_t rows_of_block(int64_t rows) { return max(int64_t{kWarps}, ceil_div(rows, kMostBlocks)); }

int64_t workspace(const Context&, int64_t rows, int64_t channels) {
  return ceil_div(rows, rows_of_block(rows)) * 2 * channels;
}

void backward(const Context& context, const LayerNormBackward& a) {
  const int64_t rows = a.x.dim(0), C = a.x.dim(1);
  if (rows == 0) return;
  const int64_t each = rows_of_block(rows), blocks = ceil_div(rows, each);
  float* parts = context.scratch("layernorm", workspace(context, rows, C));
  with_type_and_packs(a.dy.type(), C, [&](auto zero, auto packs) {
    using T = decltype(zero);
    auto* kernel = backward_any_kernel<T>;
    if constexpr (packs() > 0) kernel = backward_kernel<packs(), T>;
    const BackwardArrays<T> arrays = {a.dy.template as<const T>(),
                                      a.x.data(),
                                      a.weight.data(),
                                      a.mean.data(),
                                      a.rstd.data(),
                                      a.dx.data(),
                                      a.dx_copy.template as<T>(),
                                      parts};
    launch("layernorm, backward", kernel, static_cast<unsigned>(blocks), kThreads,
           packs() > 0 ? kThreads * kEach * sizeof(float) : 0, context.stream, arrays, rows, each,
           C);
  });
  launch("layernorm, sums of backward", add_parts_kernel,
         static_cast<unsigned>(ceil_div(2 * C, kWarp)), kSumThreads, kSumThreads * sizeof(float),
         context.stream, parts, blocks, C, a.dweight.data(), a.dbias.data());
}

}  // namespace

extern const LayerNormKernels layernorm_cuda = {guarded<forward>, guarded<backward>,
                                                guarded<workspace>};

}  // namespace pyllmc
