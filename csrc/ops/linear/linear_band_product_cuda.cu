// expand and contract in bf16. A block owns 128 columns of the result and walks down a strip of
// rows; a warp owns 64 x 64 sums. Chunks of 32 along the sum stream through a ring in shared memory
// without a stop between one tile of rows and the next. In expand the weights of a block stay in
// shared memory when they fit, so that they are read once a strip.
#include <algorithm>

#include "cuda/limits.h"
#include "ops/linear/linear_band_cuda.cuh"

namespace pyllmc::cuda {
namespace {

constexpr int kDepth = 32;  // of a chunk: channels (expand), or the hidden units of a tile
constexpr int kColumns = 128;
constexpr int kTiles = kColumns / static_cast<int>(kBandTile);
constexpr int kWarpRows = 64, kWarpColumns = 64;
constexpr int kStages = 4;
constexpr int kChunkBytes = kDepth * kColumns * 2;  // of weights

struct Args {
  const bf16 *x, *w;
  BandTable band;
  Finish finish;
  int K;
  int row_tiles;  // of a strip
  bool resident;  // a block's weights stay in shared memory
};

// What a block's sums run over.
struct Cut {
  int first;   // expand: a channel, a multiple of 8; contract: a tile
  int chunks;  // of 32 channels, or tiles
};

template <bool kExpand>
__device__ Cut cut_of(const BandTable& band) {
  if constexpr (kExpand) {
    const int tile = static_cast<int>(blockIdx.x) * kTiles;
    const int first = band.tile[tile].begin / kUnit * kUnit;
    const int end = band.tile[min(tile + kTiles, band.tiles) - 1].end;
    return {first, max(0, end - first + kDepth - 1) / kDepth};
  } else {
    const int channel = static_cast<int>(blockIdx.x) * kColumns;
    const int end_channel = min(channel + kColumns, band.residual);
    int first = band.tiles, end = 0;
    for (int c = channel + static_cast<int>(threadIdx.x) % kWarp; c < end_channel; c += kWarp) {
      const int2 tiles = load_vector<int2>(band.channel_tiles + 2 * c);
      if (tiles.x >= tiles.y) continue;
      first = min(first, tiles.x);
      end = max(end, tiles.y);
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      first = min(first, __shfl_xor_sync(0xffffffffu, first, step));
      end = max(end, __shfl_xor_sync(0xffffffffu, end, step));
    }
    return {first, max(0, end - first)};
  }
}

// Lane q of four neighbours has pairs of columns 2q, 2q+1 of four groups of eight columns; after
// the exchange it has all of group q. The exchange is its own inverse.
__device__ __forceinline__ void exchange(uint32_t (&pairs)[4]) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = threadIdx.x & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const uint32_t sent = upper ? pairs[i] : pairs[i + step];
      const uint32_t got = __shfl_xor_sync(0xffffffffu, sent, step);
      pairs[i] = upper ? got : pairs[i];
      pairs[i + step] = upper ? pairs[i + step] : got;
    }
  }
}

// 32 columns of a row from `col` on, held by four neighbouring lanes; value[j][e] is column
// 8 j + 2 q + e. Rows past the end take part in the exchanges only. An fp32 result has no GELU and
// no derivative here: those are of the activations, bf16.
__device__ __forceinline__ void finish_row(const Finish& f, int row, int col,
                                           float (&value)[4][2]) {
  const int q = static_cast<int>(threadIdx.x) % 4;
  const int64_t line = int64_t{row} * f.N;
  if (!f.is_bf16) {
    if (row >= f.M) return;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = col + 8 * j + 2 * q;
      if (c >= f.N) continue;
      if (f.residual) {
        const float2 add = load_vector<float2>(f.residual + line + c);
        value[j][0] += add.x;
        value[j][1] += add.y;
      }
      store_vector(static_cast<float*>(f.out) + line + c, make_float2(value[j][0], value[j][1]));
    }
    return;
  }
  const int64_t at = line + col + kUnit * q;
  const bool inside = row < f.M && col + kUnit * q < f.N;
  uint32_t pairs[4];
  if (f.activation) {
    const uint4 v = inside ? load_vector<uint4>(static_cast<const bf16*>(f.activation) + at)
                           : make_uint4(0, 0, 0, 0);
    pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
    exchange(pairs);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      value[j][0] *= gelu_derivative<true>(low_float(pairs[j]));
      value[j][1] *= gelu_derivative<true>(high_float(pairs[j]));
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) pairs[j] = pack_bf16(value[j][0], value[j][1]);
  const auto put = [&](void* to) {
    exchange(pairs);
    if (inside) {
      store_vector(static_cast<bf16*>(to) + at, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    }
  };
  put(f.out);
  if (!f.gelu) return;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    pairs[j] = pack_bf16(gelu<true>(value[j][0]), gelu<true>(value[j][1]));
  }
  put(f.gelu);
}

__device__ __forceinline__ void finish_warp(const Finish& f, int row, int col,
                                            const float (&sums)[4][8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float bias[4][2] = {};
    if (f.bias) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int c = col + half * 32 + 8 * j + lane % 4 * 2 + e;
          if (c < f.N) bias[j][e] = f.bias[c];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        float value[4][2];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            value[j][e] = sums[i][4 * half + j][2 * lower + e] + bias[j][e];
          }
        }
        finish_row(f, row + 16 * i + 8 * lower + lane / 4, col + half * 32, value);
      }
    }
  }
}

// Shared memory: kStages of [kRows][32] of x, four units a row, unit u of row r at u ^ (r / 2 % 4);
// then the weights of chunks: [32][128] (expand), sixteen units a row, unit u of row r at
// u ^ (r % 8), or [128][32] (contract) like x. So eight neighbouring rows never share a bank.
template <bool kExpand, int kWarps>
__global__ void __launch_bounds__(64 * kWarps, kWarps == 4 ? 1 : 2) product_kernel(const Args p) {
  constexpr int kThreads = 2 * kWarps * kWarp, kRows = kWarps * kWarpRows;
  constexpr int kRowBytes = kDepth * 2, kStageBytes = kRows * kRowBytes;
  unsigned char* const x_ring = held(shared_memory<unsigned char>());
  unsigned char* const weights = x_ring + kStages * kStageBytes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int warp_row = warp % kWarps * kWarpRows, warp_column = warp / kWarps * kWarpColumns;
  const int column = static_cast<int>(blockIdx.x) * kColumns;  // of out
  const BandTable& band = p.band;
  const Cut cut = cut_of<kExpand>(band);
  const bool resident = kExpand && p.resident;

  const auto load_x = [&](int stage, int row_tile, int chunk) {
    const int unit = thread % 4, r0 = thread / 4;
    const int k =
        (kExpand ? cut.first + kDepth * chunk : kDepth * (cut.first + chunk)) + kUnit * unit;
    const int row0 = row_tile * kRows + r0;
    const bf16* const from = p.x + int64_t{row0} * p.K + k;
    // Rows that a thread copies lie a multiple of 8 apart: their units are swapped alike.
    unsigned char* const to =
        x_ring + stage * kStageBytes + r0 * kRowBytes + (unit ^ (r0 / 2 % 4)) * 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = i * (kThreads / 4);
      const bool there = row0 + r < p.finish.M && k < p.K;
      copy_async(to + r * kRowBytes, there ? from + int64_t{r} * p.K : p.x, there ? 16 : 0);
    }
  };
  // The tile whose weights this thread copies: always the same (expand), or that of the chunk which
  // is copied next, known a step ahead.
  const int own_tile =
      kExpand ? static_cast<int>(blockIdx.x) * kTiles + thread % 16 / 4 : cut.first;
  BandTableTile tile = band.tile[min(own_tile, band.tiles - 1)];
  if (kExpand && own_tile >= band.tiles) tile.end = tile.begin;
  const auto load_weights = [&](int slot, int chunk) {
    unsigned char* const to = weights + slot * kChunkBytes;
    const int units = kExpand ? 16 : 4, unit = thread % units;  // of a row
    const bf16* const from = p.w + tile.offset + unit % 4 * kUnit;
#pragma unroll
    for (int i = 0; i < kChunkBytes / 16 / kThreads; ++i) {
      const int r = thread / units + i * (kThreads / units);
      const int channel = (kExpand ? cut.first + kDepth * chunk : column) + r;
      const bool stored = channel >= tile.begin && channel < tile.end;
      copy_async(to + r * units * 16 + (unit ^ (kExpand ? r % 8 : r / 2 % 4)) * 16,
                 stored ? from + (channel - tile.begin) * static_cast<int>(kBandTile) : p.w,
                 stored ? 16 : 0);
    }
  };

  const int first_row_tile = static_cast<int>(blockIdx.y) * p.row_tiles;
  const int end_row_tile = min(first_row_tile + p.row_tiles, (p.finish.M + kRows - 1) / kRows);
  int loading_tile = first_row_tile, loading_chunk = 0;
  unsigned loading = 0, step = 0;  // chunks copied and used
  const auto load_next = [&] {
    if (loading_tile < end_row_tile && cut.chunks > 0) {
      load_x(loading % kStages, loading_tile, loading_chunk);
      if (!resident) {
        load_weights(loading % kStages, loading_chunk);
      } else if (loading_tile == first_row_tile) {
        load_weights(loading_chunk, loading_chunk);
      }
      ++loading;
      if (++loading_chunk == cut.chunks) {
        loading_chunk = 0;
        ++loading_tile;
      }
      if constexpr (!kExpand) tile = band.tile[cut.first + loading_chunk];
    }
    copy_commit();
  };

  // What this warp's columns see (expand): channels.
  int seen_begin = 0, seen_end = 0;
  if constexpr (kExpand) {
    const int t = (column + warp_column) / static_cast<int>(kBandTile);
    if (t < band.tiles) {
      seen_begin = band.tile[t].begin;
      seen_end = band.tile[min(t + 1, band.tiles - 1)].end;
    }
  }

#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load_next();
  for (int row_tile = first_row_tile; row_tile < end_row_tile; ++row_tile) {
    float sums[4][8][4] = {};
    for (int chunk = 0; chunk < cut.chunks; ++chunk, ++step) {
      if constexpr (!kExpand) {
        seen_begin = band.tile[cut.first + chunk].begin;
        seen_end = band.tile[cut.first + chunk].end;
      }
      copy_wait<kStages - 2>();
      __syncthreads();
      load_next();
      const unsigned char* const xs =
          x_ring + step % kStages * kStageBytes + (warp_row + lane % 16) * kRowBytes;
      const unsigned char* const ws = weights + (resident ? chunk : step % kStages) * kChunkBytes;
#pragma unroll
      for (int k = 0; k < kDepth; k += 16) {
        // Parts of the band's corners are 0: they are left out sixteen channels at a time.
        if constexpr (kExpand) {
          const int channel = cut.first + kDepth * chunk + k;
          if (channel + 16 <= seen_begin || channel >= seen_end) continue;
        } else {
          const int channel = column + warp_column;
          if (channel + kWarpColumns <= seen_begin || channel >= seen_end) continue;
        }
        uint32_t a[4][4], b[4][4];
        const int x_unit = (k / kUnit + lane / 16) ^ (lane / 2 % 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          load_matrices(a[i], xs + 16 * i * kRowBytes + x_unit * 16);
        }
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if constexpr (kExpand) {
            const int unit = (warp_column / kUnit + 2 * n + lane / 16) ^ (lane % 8);
            load_matrices_transposed(b[n], ws + (k + lane % 16) * kColumns * 2 + unit * 16);
          } else {
            const int unit = (k / kUnit + lane / 8 % 2) ^ (lane / 2 % 4);
            const int r = warp_column + 16 * n + lane / 16 * 8 + lane % 8;
            load_matrices(b[n], ws + r * kRowBytes + unit * 16);
          }
        }
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if constexpr (!kExpand) {
            const int channel = column + warp_column + 16 * n;
            if (channel + 16 <= seen_begin || channel >= seen_end) continue;
          }
          const uint32_t left[2] = {b[n][0], b[n][1]}, right[2] = {b[n][2], b[n][3]};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            mma_bf16(sums[i][2 * n], a[i], left);
            mma_bf16(sums[i][2 * n + 1], a[i], right);
          }
        }
      }
    }
    finish_warp(p.finish, row_tile * kRows + warp_row, column + warp_column, sums);
  }
}

template <bool kExpand, int kWarps>
void run(const Context& context, const BandProduct& b, int64_t column_blocks, int64_t most_chunks) {
  constexpr int64_t kRows = kWarps * kWarpRows;
  // Blocks that run at once on the largest cards: 132 multiprocessors, one or two blocks each.
  constexpr int64_t kPlaces = kWarps == 4 ? 132 : 264;
  // What leaves room for a second block there.
  constexpr int64_t kMostBytes = 113 * 1024;
  const int64_t row_tiles = ceil_div(b.finish.M, kRows);
  const int64_t strips = std::clamp<int64_t>(kPlaces / column_blocks, 1, row_tiles);
  const int64_t x_bytes = kStages * kRows * kDepth * 2;
  const int64_t all_bytes = x_bytes + most_chunks * kChunkBytes;
  const bool resident = kExpand && all_bytes <= std::min(kMostBytes, shared_bytes_granted());
  const int64_t K = kExpand ? b.band.residual : b.band.hidden;
  const Args args = {static_cast<const bf16*>(b.x),
                     static_cast<const bf16*>(b.w),
                     b.band,
                     b.finish,
                     static_cast<int>(K),
                     static_cast<int>(ceil_div(row_tiles, strips)),
                     resident};
  const int64_t bytes = resident ? all_bytes : x_bytes + kStages * kChunkBytes;
  launch(kExpand ? "band expand" : "band contract", product_kernel<kExpand, kWarps>,
         dim3(static_cast<unsigned>(column_blocks),
              static_cast<unsigned>(ceil_div(row_tiles, args.row_tiles))),
         dim3(2 * kWarps * kWarp), static_cast<size_t>(bytes), context.stream, args);
}

}  // namespace

void band_product_bf16(const Context& context, const BandProduct& b) {
  // Tall blocks read less, short ones keep more of the card busy.
  constexpr int64_t kEnoughBlocks = 120;
  const int64_t columns = ceil_div(b.finish.N, kColumns), M = b.finish.M;
  const auto enough = [&](int64_t rows) { return columns * ceil_div(M, rows) >= kEnoughBlocks; };
  if (b.expands) {
    const std::vector<BandTile>& tiles = b.layout->tiles();
    int64_t chunks = 0;
    for (size_t t = 0; t < tiles.size(); t += kTiles) {
      const int64_t begin = tiles[t].begin / kUnit * kUnit;
      const int64_t end = tiles[std::min(t + kTiles, tiles.size()) - 1].end;
      chunks = std::max(chunks, ceil_div(end - begin, kDepth));
    }
    if (!enough(128)) return run<true, 1>(context, b, columns, chunks);
    return run<true, 2>(context, b, columns, chunks);
  }
  if (enough(256)) return run<false, 4>(context, b, columns, 0);
  if (enough(128)) return run<false, 2>(context, b, columns, 0);
  run<false, 1>(context, b, columns, 0);
}

}  // namespace pyllmc::cuda
