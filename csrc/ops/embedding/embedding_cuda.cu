#include "cuda/guard.h"
#include "cuda/kernel_tools.cuh"
#include "ops/embedding/embedding.h"

namespace pyllmc {
namespace {

using namespace cuda;

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

// A thread has N channels of one place (1, or 4 when C is a multiple of 4).
template <int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const int32_t* __restrict__ tokens, const float* __restrict__ wte,
                   const float* __restrict__ wpe, const int32_t* __restrict__ first_position,
                   float* __restrict__ x, int64_t places, int T, int C) {
  const int per_place = C / N;
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t place = item / per_place;
  if (place >= places) return;
  const int c = static_cast<int>(item % per_place) * N;
  const int64_t position = place % T + (first_position ? *first_position : 0);
  const float* token_row = wte + int64_t{tokens[place]} * C + c;
  const float* position_row = wpe + position * C + c;
  float a[N], b[N];
  load(token_row, a);
  load(position_row, b);
#pragma unroll
  for (int i = 0; i < N; ++i) a[i] += b[i];
  store(x + place * C + c, a);
}

// One block a place in `order` and kWarp * N channels; the first of equal tokens owns their row of
// dwte. Its warps take turns over the places; their sums are added up in the order of the warps.
template <int N>
__global__ void __launch_bounds__(kThreads)
    token_kernel(const int32_t* __restrict__ tokens, const int32_t* __restrict__ order,
                 const float* __restrict__ dx, float* __restrict__ dwte, int places, int C) {
  const int first = static_cast<int>(blockIdx.x);
  const int32_t token = tokens[order[first]];
  if (first > 0 && tokens[order[first - 1]] == token) return;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  auto* parts = shared_memory<float>();  // (kWarps, kWarp * N), then kWarp for block_sum
  int count = 0;
  for (int found = kThreads; found == kThreads; count += found) {
    const int at = first + count + static_cast<int>(threadIdx.x);
    const bool same = at < places && tokens[order[at]] == token;
    found = static_cast<int>(block_sum(same ? 1.0f : 0.0f, parts + kThreads * N));
  }
  const int c = (static_cast<int>(blockIdx.y) * kWarp + lane) * N;
  float sum[N] = {};
  if (c < C) {
#pragma unroll 4
    for (int i = warp; i < count; i += kWarps) {
      float row[N];
      load(dx + int64_t{order[first + i]} * C + c, row);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += row[j];
    }
  }
  store(parts + threadIdx.x * N, sum);
  __syncthreads();
  if (warp > 0 || c >= C) return;
  float* out = dwte + int64_t{token} * C + c;
  load(out, sum);
  for (int w = 0; w < kWarps; ++w) {
    float part[N];
    load(parts + (w * kWarp + lane) * N, part);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += part[j];
  }
  store(out, sum);
}

template <int N>
__global__ void __launch_bounds__(kThreads)
    position_kernel(const float* __restrict__ dx, float* __restrict__ dwpe, int B, int64_t TC) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= TC) return;
  float sum[N], row[N];
  load(dwpe + at, sum);
#pragma unroll 4
  for (int b = 0; b < B; ++b) {
    load(dx + b * TC + at, row);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += row[j];
  }
  store(dwpe + at, sum);
}

unsigned blocks_for(int64_t threads) { return static_cast<unsigned>(ceil_div(threads, kThreads)); }

void forward(const Context& context, const EmbeddingForward& a) {
  const int64_t places = a.tokens.numel(), C = a.wte.dim(1);
  const bool wide = C % 4 == 0;
  if (a.x.numel() == 0) return;
  launch("embedding", wide ? forward_kernel<4> : forward_kernel<1>,
         blocks_for(places * (wide ? C / 4 : C)), kThreads, 0, context.stream, a.tokens.data(),
         a.wte.data(), a.wpe.data(), a.first_position, a.x.data(), places, a.tokens.dim(1), C);
}

void backward(const Context& context, const EmbeddingBackward& a) {
  const int64_t places = a.tokens.numel(), B = a.tokens.dim(0), C = a.dwte.dim(1);
  const int64_t TC = a.tokens.dim(1) * C;
  const bool wide = C % 4 == 0;
  const int64_t each = wide ? 4 : 1;
  if (places * C == 0) return;
  const dim3 grid(static_cast<unsigned>(places), static_cast<unsigned>(ceil_div(C, kWarp * each)));
  launch("embedding of tokens, backward", wide ? token_kernel<4> : token_kernel<1>, grid, kThreads,
         (each * kThreads + kWarp) * sizeof(float), context.stream, a.tokens.data(), a.order.data(),
         a.dx.data(), a.dwte.data(), places, C);
  launch("embedding of positions, backward", wide ? position_kernel<4> : position_kernel<1>,
         blocks_for(TC / each), kThreads, 0, context.stream, a.dx.data(), a.dwpe.data(), B, TC);
}

}  // namespace

extern const EmbeddingKernels embedding_cuda = {guarded<forward>, guarded<backward>};

}  // namespace pyllmc
