// Linear layers of a handful of rows, as decoding has: every weight is read once, at the memory's
// speed, and nothing is done with tiles.
#include "ops/linear/linear_band_cuda.cuh"
#include "ops/linear/linear_few_rows_cuda.h"

namespace pyllmc::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// A warp sums one output of every row. T: float or bf16, of x and w.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_kernel(const Finish f, const T* x, const T* w, int K, bool vectors) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (n >= f.N) return;
  w += int64_t{n} * K;
  float sums[kFewRowsCuda] = {};
  const int whole = vectors ? K / 8 * 8 : 0;
  for (int k = lane * 8; k < whole; k += kWarp * 8) {
    float a[8], b[8];
    load(w + k, a);
#pragma unroll
    for (int row = 0; row < kFewRowsCuda; ++row) {
      if (row >= f.M) break;
      load(x + int64_t{row} * K + k, b);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[row] += a[i] * b[i];
    }
  }
  for (int k = whole + lane; k < K; k += kWarp) {
#pragma unroll
    for (int row = 0; row < kFewRowsCuda; ++row) {
      if (row < f.M) sums[row] += to_float(w[k]) * to_float(x[int64_t{row} * K + k]);
    }
  }
#pragma unroll
  for (int row = 0; row < kFewRowsCuda; ++row) {
    const float sum = warp_sum(sums[row]);
    if (lane == 0 && row < f.M) finish_value(f, row, n, sum);
  }
}

// A block sums the hidden units of one tile; its warps take every eighth channel, and their sums
// are added up in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    expand_kernel(const Finish f, const BandTable band, const T* x, const T* w) {
  float* const all = shared_memory<float>();  // [kWarps][kFewRowsCuda][32]
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const BandTableTile tile = band.tile[blockIdx.x];
  float sums[kFewRowsCuda] = {};
  for (int c = tile.begin + warp; c < tile.end; c += kWarps) {
    const float weight = to_float(w[tile.offset + (c - tile.begin) * kBandTile + lane]);
#pragma unroll
    for (int row = 0; row < kFewRowsCuda; ++row) {
      if (row < f.M) sums[row] += weight * to_float(x[int64_t{row} * band.residual + c]);
    }
  }
#pragma unroll
  for (int row = 0; row < kFewRowsCuda; ++row) {
    all[(warp * kFewRowsCuda + row) * kWarp + lane] = sums[row];
  }
  __syncthreads();
  if (warp >= f.M || lane >= tile.units) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += all[(i * kFewRowsCuda + warp) * kWarp + lane];
  finish_value(f, warp, tile.hidden + lane, total);
}

// A warp sums one channel over the tiles that hold it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    contract_kernel(const Finish f, const BandTable band, const T* x, const T* w) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int c = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (c >= band.residual) return;
  const int2 tiles = load_vector<int2>(band.channel_tiles + 2 * c);
  float sums[kFewRowsCuda] = {};
  for (int t = tiles.x; t < tiles.y; ++t) {
    const BandTableTile tile = band.tile[t];
    if (lane >= tile.units) continue;
    const float weight = to_float(w[tile.offset + (c - tile.begin) * kBandTile + lane]);
#pragma unroll
    for (int row = 0; row < kFewRowsCuda; ++row) {
      if (row < f.M) {
        sums[row] += weight * to_float(x[int64_t{row} * band.hidden + tile.hidden + lane]);
      }
    }
  }
#pragma unroll
  for (int row = 0; row < kFewRowsCuda; ++row) {
    const float sum = warp_sum(sums[row]);
    if (lane == 0 && row < f.M) finish_value(f, row, c, sum);
  }
}

template <class T>
void run(const Context& context, const LinearForward& a, const T* x, const T* w) {
  const Finish f = finish_of(a);
  const auto blocks = [](int64_t n) { return dim3(static_cast<unsigned>(ceil_div(n, kWarps))); };
  if (!a.band) {
    const int64_t K = a.x.dim(1);
    return launch("a linear layer of few rows", dense_kernel<T>, blocks(f.N), dim3(kThreads), 0,
                  context.stream, f, x, w, static_cast<int>(K), K % 8 == 0);
  }
  const BandTable& band = a.band_table;
  if (band.hidden_is_rows) {
    launch("band expand of few rows", expand_kernel<T>, dim3(static_cast<unsigned>(band.tiles)),
           dim3(kThreads), kWarps * kFewRowsCuda * kWarp * sizeof(float), context.stream, f, band,
           x, w);
  } else {
    launch("band contract of few rows", contract_kernel<T>, blocks(f.N), dim3(kThreads), 0,
           context.stream, f, band, x, w);
  }
}

}  // namespace

void few_rows(const Context& context, const LinearForward& a) {
  if (a.x.type() == DType::bf16) {
    run(context, a, a.x.as<const bf16>(), reinterpret_cast<const bf16*>(a.w_bf16.data()));
  } else {
    run(context, a, a.x.data(), a.w.data());
  }
}

}  // namespace pyllmc::cuda
