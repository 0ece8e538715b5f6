#include "cuda/kernel_tools.cuh"
#include "ops/linear/linear_parts_cuda.h"

namespace pyllmc::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    add_kernel(const float* parts, int64_t n, int count, float* out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  float sum = 0;
  for (int part = 0; part < count; ++part) sum += parts[part * n + i];
  out[i] += sum;
}

// A block adds up 32 lines of 32 floats of one tile, a thread four neighbours of a line.
constexpr int kLines = kThreads / 8;
__global__ void __launch_bounds__(kThreads)
    add_band_kernel(const BandTable band, const float* parts, int64_t floats, int count,
                    float* out) {
  const BandTableTile tile = band.tile[blockIdx.x];
  const int line = static_cast<int>(blockIdx.y) * kLines + static_cast<int>(threadIdx.x) / 8;
  const int unit = static_cast<int>(threadIdx.x) % 8 * 4;
  if (line >= tile.end - tile.begin) return;
  const int64_t at = tile.offset + line * kBandTile + unit;
  float sum[4] = {};
  for (int part = 0; part < count; ++part) {
    float x[4];
    load(parts + part * floats + at, x);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += x[i];
  }
  const int2 kept = load_vector<int2>(band.channel_units + 2 * (tile.begin + line));
  float total[4];
  load(out + at, total);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int h = tile.hidden + unit + i;
    if (h >= kept.x && h < kept.y) total[i] += sum[i];
  }
  store(out + at, total);
}

// A block sums 64 columns over the rows of its part: a thread sums every 32nd row of 8 columns,
// then its sums are added up in the order of the threads.
constexpr int kColumns = 64, kRowThreads = kThreads / 8;
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const T* dy, int M, int N, int rows, bool vectors, float* parts) {
  const int col = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % 8 * 8;
  const int begin = static_cast<int>(blockIdx.y) * rows, end = min(begin + rows, M);
  float sum[8] = {};
  if (col < N) {
    for (int row = begin + static_cast<int>(threadIdx.x) / 8; row < end; row += kRowThreads) {
      const T* const from = dy + int64_t{row} * N + col;
      float x[8] = {};
      if (vectors) {
        load(from, x);
      } else {
        for (int i = 0; i < min(8, N - col); ++i) x[i] = to_float(from[i]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += x[i];
    }
  }
  float* const all = shared_memory<float>();  // [kRowThreads][kColumns]
  store(all + threadIdx.x * 8, sum);
  __syncthreads();
  const int mine = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= kColumns || mine >= N) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kRowThreads; ++i) total += all[i * kColumns + threadIdx.x];
  parts[blockIdx.y * int64_t{N} + mine] = total;
}

RowParts column_parts(int64_t M, int64_t N) {
  return RowParts(M, ceil_div(N, kColumns), 1056, kRowThreads);
}

}  // namespace

void add_parts(const Context& context, const float* parts, int64_t n, int64_t count, float* out) {
  launch("adding up parts", add_kernel, dim3(static_cast<unsigned>(ceil_div(n, kThreads))),
         dim3(kThreads), 0, context.stream, parts, n, static_cast<int>(count), out);
}

void add_band_parts(const Context& context, const BandTable& band, const float* parts,
                    int64_t floats, int64_t count, float* out) {
  if (band.widest == 0) return;
  launch(
      "adding up parts of a band", add_band_kernel,
      dim3(static_cast<unsigned>(band.tiles), static_cast<unsigned>(ceil_div(band.widest, kLines))),
      dim3(kThreads), 0, context.stream, band, parts, floats, static_cast<int>(count), out);
}

void add_column_sums(const Context& context, ConstTensor dy, Tensor db, float* workspace) {
  const int64_t M = dy.dim(0), N = dy.dim(1);
  const RowParts parts = column_parts(M, N);
  const auto sum = [&](auto kernel, const auto* from) {
    launch("sums of columns", kernel,
           dim3(static_cast<unsigned>(ceil_div(N, kColumns)), static_cast<unsigned>(parts.count)),
           dim3(kThreads), kRowThreads * kColumns * sizeof(float), context.stream, from,
           static_cast<int>(M), static_cast<int>(N), static_cast<int>(parts.rows), N % 8 == 0,
           workspace);
  };
  if (dy.type() == DType::bf16) {
    sum(column_sums_kernel<bf16>, dy.as<const bf16>());
  } else {
    sum(column_sums_kernel<float>, dy.data());
  }
  add_parts(context, workspace, N, parts.count, db.data());
}

int64_t column_sums_workspace(int64_t M, int64_t N) { return column_parts(M, N).count * N; }

}  // namespace pyllmc::cuda
