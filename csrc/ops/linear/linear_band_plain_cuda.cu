// The band's products in fp32 and TF32, and in bf16 for shapes that the tensor-core kernels do not
// take: one tile engine of 64 x 64 sums whose operands are functions of their indices.
#include "ops/linear/linear_band_cuda.cuh"
#include "ops/linear/linear_parts_cuda.h"

namespace pyllmc::cuda {
namespace {

constexpr int kEdge = 64, kDepth = 16, kThreads = 256;
constexpr int kPitch = kEdge + 8;  // rows that a warp reads at once lie in different banks
constexpr int kHiddenEdge = kEdge / static_cast<int>(kBandTile);  // tiles
constexpr size_t kSharedBytes = 2 * kDepth * kPitch * sizeof(float);

// Sixteen sums a thread, of places (row(i, j), col(i, j)) of the tile; i and j count to 4.
struct Fma {
  float sums[4][4] = {};
  static __device__ int row(int i, int) { return static_cast<int>(threadIdx.x) / 16 * 4 + i; }
  static __device__ int col(int, int j) { return static_cast<int>(threadIdx.x) % 16 * 4 + j; }
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float x[4], y[4];
      load(a + k * kPitch + row(0, 0), x);
      load(b + k * kPitch + col(0, 0), y);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += x[i] * y[j];
      }
    }
  }
};
// Eight warps of 16 x 32: sums[i] is the fragment of columns 8 i to 8 i + 7.
struct Tf32 {
  float sums[4][4] = {};
  static __device__ int row(int, int j) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    return static_cast<int>(threadIdx.x) / kWarp % 4 * 16 + lane / 4 + j / 2 * 8;
  }
  static __device__ int col(int i, int j) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    return static_cast<int>(threadIdx.x) / (4 * kWarp) * 32 + i * 8 + lane % 4 * 2 + j % 2;
  }
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int row0 = static_cast<int>(threadIdx.x) / kWarp % 4 * 16 + lane / 4;
    const int col0 = static_cast<int>(threadIdx.x) / (4 * kWarp) * 32 + lane / 4;
#pragma unroll
    for (int k = 0; k < kDepth; k += 8) {
      const float* const upper = a + (k + lane % 4) * kPitch + row0;
      const float* const lower = upper + 4 * kPitch;
      const uint32_t x[4] = {to_tf32(upper[0]), to_tf32(upper[8]), to_tf32(lower[0]),
                             to_tf32(lower[8])};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const from = b + (k + lane % 4) * kPitch + col0 + 8 * i;
        const uint32_t y[2] = {to_tf32(from[0]), to_tf32(from[4 * kPitch])};
        mma_tf32(sums[i], x, y);
      }
    }
  }
};

// sums += a b over [begin, end): a(i, k) and b(k, j) are values or 0, for every i and j < kEdge.
// kAcross: neighbouring k, instead of neighbouring i, are neighbours in the memory behind a.
template <bool kAcross, class Sums, class A, class B>
__device__ void multiply(Sums& sums, int begin, int end, const A& a, const B& b) {
  float* const xs = shared_memory<float>();  // [kDepth][kPitch]
  float* const ys = xs + kDepth * kPitch;
  for (int k0 = begin; k0 < end; k0 += kDepth) {
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < kDepth * kEdge; at += kThreads) {
      const int k = kAcross ? at % kDepth : at / kEdge, i = kAcross ? at / kDepth : at % kEdge;
      xs[k * kPitch + i] = k0 + k < end ? a(i, k0 + k) : 0.0f;
      const int row = at / kEdge, j = at % kEdge;
      ys[row * kPitch + j] = k0 + row < end ? b(k0 + row, j) : 0.0f;
    }
    __syncthreads();
    sums.multiply(xs, ys);
  }
}

template <class Sums, class T>
__global__ void __launch_bounds__(kThreads)
    expand_kernel(const BandTable band, const Finish f, const T* x, const T* w) {
  const int tile0 = static_cast<int>(blockIdx.x) * kHiddenEdge;
  const int row0 = static_cast<int>(blockIdx.y) * kEdge, C = band.residual;
  const int mine = tile0 + static_cast<int>(threadIdx.x) % kEdge / static_cast<int>(kBandTile);
  const BandTableTile own = band.tile[min(mine, band.tiles - 1)];  // of b's column j = thread % 64
  const int own_end = mine < band.tiles ? own.end : 0;
  const int begin = band.tile[tile0].begin;
  const int end = band.tile[min(tile0 + kHiddenEdge, band.tiles) - 1].end;
  Sums sums;
  multiply<true>(
      sums, begin, end,
      [&](int i, int c) { return row0 + i < f.M ? to_float(x[int64_t{row0 + i} * C + c]) : 0.0f; },
      [&](int c, int j) {
        if (c < own.begin || c >= own_end) return 0.0f;
        return to_float(w[own.offset + (c - own.begin) * kBandTile + j % kBandTile]);
      });
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = row0 + Sums::row(i, j);
      const int col = tile0 * static_cast<int>(kBandTile) + Sums::col(i, j);
      if (row < f.M && col < f.N) finish_value(f, row, col, sums.sums[i][j]);
    }
  }
}

template <class Sums, class T>
__global__ void __launch_bounds__(kThreads)
    contract_kernel(const BandTable band, const Finish f, const T* x, const T* w) {
  const int channel0 = static_cast<int>(blockIdx.x) * kEdge;
  const int row0 = static_cast<int>(blockIdx.y) * kEdge, H = band.hidden;
  int begin = H, end = 0;  // hidden units of all tiles that hold one of the channels
  for (int c = channel0; c < min(channel0 + kEdge, band.residual); ++c) {
    const int2 tiles = load_vector<int2>(band.channel_tiles + 2 * c);
    if (tiles.x >= tiles.y) continue;
    begin = min(begin, tiles.x * static_cast<int>(kBandTile));
    end = max(end, min(H, tiles.y * static_cast<int>(kBandTile)));
  }
  Sums sums;
  multiply<true>(
      sums, begin, end,
      [&](int i, int h) { return row0 + i < f.M ? to_float(x[int64_t{row0 + i} * H + h]) : 0.0f; },
      [&](int h, int j) {
        const BandTableTile tile = band.tile[h / static_cast<int>(kBandTile)];
        const int c = channel0 + j;
        if (c < tile.begin || c >= tile.end) return 0.0f;
        return to_float(w[tile.offset + (c - tile.begin) * kBandTile + h % kBandTile]);
      });
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = row0 + Sums::row(i, j), col = channel0 + Sums::col(i, j);
      if (row < f.M && col < f.N) finish_value(f, row, col, sums.sums[i][j]);
    }
  }
}

// A block: two tiles, 64 channels of the window that they see together, a part of the rows.
template <class Sums, class T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(const BandTable band, int M, int rows, const T* residual, const T* hidden,
                    int64_t floats, float* parts) {
  const int tile0 = static_cast<int>(blockIdx.x) * kHiddenEdge;
  const int channel0 = band.tile[tile0].begin + static_cast<int>(blockIdx.y) * kEdge;
  const int end = band.tile[min(tile0 + kHiddenEdge, band.tiles) - 1].end;
  if (channel0 >= end) return;
  const int hidden0 = tile0 * static_cast<int>(kBandTile);
  const int row0 = static_cast<int>(blockIdx.z) * rows;
  Sums sums;
  multiply<false>(
      sums, row0, min(M, row0 + rows),
      [&](int i, int m) {
        const int c = channel0 + i;
        return c < end ? to_float(residual[int64_t{m} * band.residual + c]) : 0.0f;
      },
      [&](int m, int j) {
        const int h = hidden0 + j;
        return h < band.hidden ? to_float(hidden[int64_t{m} * band.hidden + h]) : 0.0f;
      });
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int channel = channel0 + Sums::row(i, j), unit = Sums::col(i, j);
      const int t = tile0 + unit / static_cast<int>(kBandTile);
      if (t >= band.tiles) continue;
      const BandTableTile tile = band.tile[t];
      if (channel < tile.begin || channel >= tile.end) continue;
      parts[blockIdx.z * floats + tile.offset + (channel - tile.begin) * kBandTile +
            unit % kBandTile] = sums.sums[i][j];
    }
  }
}

// Calls f with the engine for the precision and a null pointer to the operands' type.
template <class F>
void choose(const Context& context, const F& f) {
  if (context.precision == Precision::bf16) {
    f(Fma(), static_cast<const bf16*>(nullptr));
  } else if (context.precision == Precision::tf32) {
    f(Tf32(), static_cast<const float*>(nullptr));
  } else {
    f(Fma(), static_cast<const float*>(nullptr));
  }
}

int64_t stretches(const BandLayout& layout) {
  const std::vector<BandTile>& tiles = layout.tiles();
  int64_t widest = 1;
  for (size_t t = 0; t < tiles.size(); t += kHiddenEdge) {
    const size_t last = std::min(t + kHiddenEdge, tiles.size()) - 1;
    widest = std::max(widest, tiles[last].end - tiles[t].begin);
  }
  return ceil_div(widest, kEdge);
}

RowParts gradient_parts(const BandLayout& layout, int64_t M) {
  const int64_t blocks = ceil_div(static_cast<int64_t>(layout.tiles().size()), kHiddenEdge);
  return RowParts(M, blocks * stretches(layout), 528, kDepth);
}

}  // namespace

void band_product_plain(const Context& context, const BandProduct& b) {
  const dim3 grid(static_cast<unsigned>(ceil_div(b.finish.N, kEdge)),
                  static_cast<unsigned>(ceil_div(b.finish.M, kEdge)));
  choose(context, [&](auto engine, const auto* type) {
    using Sums = decltype(engine);
    using T = std::remove_cvref_t<decltype(*type)>;
    launch(b.expands ? "band expand, plain" : "band contract, plain",
           b.expands ? expand_kernel<Sums, T> : contract_kernel<Sums, T>, grid, dim3(kThreads),
           kSharedBytes, context.stream, b.band, b.finish, static_cast<const T*>(b.x),
           static_cast<const T*>(b.w));
  });
}

void band_gradient_plain(const Context& context, const BandGradient& g) {
  const RowParts parts = gradient_parts(*g.layout, g.M);
  const int64_t floats = g.layout->floats();
  choose(context, [&](auto engine, const auto* type) {
    using T = std::remove_cvref_t<decltype(*type)>;
    launch("band gradient, plain", gradient_kernel<decltype(engine), T>,
           dim3(static_cast<unsigned>(ceil_div(g.band.tiles, kHiddenEdge)),
                static_cast<unsigned>(stretches(*g.layout)), static_cast<unsigned>(parts.count)),
           dim3(kThreads), kSharedBytes, context.stream, g.band, static_cast<int>(g.M),
           static_cast<int>(parts.rows), static_cast<const T*>(g.residual),
           static_cast<const T*>(g.hidden), floats, g.workspace);
  });
  add_band_parts(context, g.band, g.workspace, floats, parts.count, g.dw);
}

int64_t band_gradient_workspace_plain(const BandLayout& layout, int64_t M) {
  return gradient_parts(layout, M).count * layout.floats();
}

}  // namespace pyllmc::cuda
