// Attention on the tensor cores, bf16 with fp32 sums, for heads of up to 128 channels by eights
// (after Dao et al. 2022): tiles of scores live in registers only. A block has 64 rows, a warp 16
// of them; a tile of keys (or queries) after the other passes through shared memory. Backward makes
// the scores twice, once for dq and once for dk and dv, so that every sum has one owner and one
// order.
#pragma once

#include "ops/attention/attention_cuda.cuh"

namespace pyllmc::cuda::tensor {

constexpr int kThreads = 128;
constexpr int kRows = 64;      // of a block
constexpr int kWarpRows = 16;  // of a warp
constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// HS is the head size rounded up to 32, 64 or 128; the columns from hs on are zeros. The padding
// keeps the rows that one ldmatrix reads in different banks.
template <int HS>
constexpr int kPitch = HS + 8;

// Rows of a tile of the inner loop; fewer where two sets of sums fill the registers.
template <int HS>
constexpr int kInner = HS == 128 ? 32 : 64;

// Begins to copy positions [first, first + kCount) of a head; zeros from T on.
template <int HS, int kCount>
__device__ __forceinline__ void begin_fetch(bf16* tile, const bf16* from, int64_t pitch, int first,
                                            const AttentionShape& s) {
  constexpr int kChunks = HS / 8;
#pragma unroll
  for (int i = threadIdx.x; i < kCount * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks * 8;
    const bool there = first + r < s.T && c < s.hs;
    copy_async(tile + r * kPitch<HS> + c, there ? from + (first + r) * pitch + c : from,
               there ? 16 : 0);
  }
}

// A (16, 16) from rows `row`.. and columns `col`.. of a tile.
template <int HS>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const bf16* tile, int row, int col) {
  const int lane = threadIdx.x % kWarp;
  load_matrices(a, tile + (row + lane % 16) * kPitch<HS> + col + lane / 16 * 8);
}

// D (16, 8 N) += A (16, HS) of `rows` times the transpose of the first 8 N rows of `tile`.
template <int HS, int N>
__device__ __forceinline__ void add_row_products(float (&d)[N][4], const bf16* rows, int row,
                                                 const bf16* tile) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < HS; k += 16) {
    uint32_t a[4];
    load_a<HS>(a, rows, row, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t b[4];
      load_matrices(b,
                    tile + (n * 8 + lane % 8 + lane / 16 * 8) * kPitch<HS> + k + lane / 8 % 2 * 8);
      mma_bf16(d[n], a, {b[0], b[1]});
      mma_bf16(d[n + 1], a, {b[2], b[3]});
    }
  }
}

// D (16, HS) += W (16, 8 N) times the first 8 N rows of `tile`; W is a result in registers.
template <int HS, int N>
__device__ __forceinline__ void add_weighted(float (&d)[HS / 8][4], const float (&w)[N][4],
                                             const bf16* tile) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < N; k += 2) {
    const uint32_t a[4] = {pack_bf16(w[k][0], w[k][1]), pack_bf16(w[k][2], w[k][3]),
                           pack_bf16(w[k + 1][0], w[k + 1][1]),
                           pack_bf16(w[k + 1][2], w[k + 1][3])};
#pragma unroll
    for (int n = 0; n < HS / 8; n += 2) {
      uint32_t b[4];
      load_matrices_transposed(b, tile + (k * 8 + lane % 16) * kPitch<HS> + n * 8 + lane / 16 * 8);
      mma_bf16(d[n], a, {b[0], b[1]});
      mma_bf16(d[n + 1], a, {b[2], b[3]});
    }
  }
}

// Rows `row`.. of the warp, times a factor for each of a lane's two, to positions first.. below T.
// They pass through `tile`, whose rows are the warp's own, to be stored 16 bytes at a time.
template <int HS>
__device__ __forceinline__ void put(bf16* to, int64_t pitch, bf16* tile, int row,
                                    const float (&d)[HS / 8][4], float upper, float lower,
                                    int first, const AttentionShape& s) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, c = lane % 4 * 2;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < HS / 8; ++n) {
    bf16* at = tile + (row + g) * kPitch<HS> + n * 8 + c;
    store_vector(at, pack_bf16(d[n][0] * upper, d[n][1] * upper));
    store_vector(at + 8 * kPitch<HS>, pack_bf16(d[n][2] * lower, d[n][3] * lower));
  }
  __syncwarp();
  constexpr int kChunks = HS / 8;
#pragma unroll
  for (int i = lane; i < kWarpRows * kChunks; i += kWarp) {
    const int r = i / kChunks, at = i % kChunks * 8;
    if (first + r < s.T && at < s.hs) {
      store_vector(to + (first + r) * pitch + at,
                   load_vector<uint4>(tile + (row + r) * kPitch<HS> + at));
    }
  }
}

// Over the four lanes that share a row of a result.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <int HS>
constexpr size_t kForwardBytes = 5 * kRows * kPitch<HS> * sizeof(bf16);

template <int HS>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const bf16* __restrict__ qkv, bf16* __restrict__ out,
                   float* __restrict__ log_sum_exp, AttentionShape s) {
  constexpr int kTileElements = kRows * kPitch<HS>, N = kRows / 8;
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp * kWarpRows;
  const int h = blockIdx.y, b = blockIdx.z;
  const int block_first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const HeadRows<const bf16> head(qkv, s, b, h);
  auto* queries = shared_memory<bf16>();
  bf16* stages = queries + kTileElements;  // keys and values, twice
  const auto begin_stage = [&](int tile) {
    bf16* keys = stages + tile % 2 * 2 * kTileElements;
    begin_fetch<HS, kRows>(keys, head.k, head.pitch, tile * kRows, s);
    begin_fetch<HS, kRows>(keys + kTileElements, head.v, head.pitch, tile * kRows, s);
    copy_commit();
  };
  begin_fetch<HS, kRows>(queries, head.q, head.pitch, block_first, s);
  begin_stage(0);
  const float scale = s.scale * kLog2e;
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {}, sums[HS / 8][4] = {};
  const int tiles = block_first / kRows + 1;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      begin_stage(tile + 1);
      copy_wait<1>();
    } else {
      copy_wait<0>();
    }
    __syncthreads();
    const bf16* keys = stages + tile % 2 * 2 * kTileElements;
    float scores[N][4] = {};
    add_row_products<HS>(scores, queries, row, keys);
    if (tile + 1 == tiles) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int query = row + lane / 4 + i / 2 * 8, key = n * 8 + lane % 4 * 2 + i % 2;
          if (key > query) scores[n][i] = -INFINITY;
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float higher = top[half];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        higher = fmaxf(higher, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      }
      higher = row_max(higher);
      const float shrink = fast_exp2((top[half] - higher) * scale);
      top[half] = higher;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = fast_exp2((scores[n][i] - higher) * scale);
          sum += scores[n][i];
        }
      }
      total[half] = total[half] * shrink + sum;
#pragma unroll
      for (int n = 0; n < HS / 8; ++n) {
        sums[n][2 * half] *= shrink;
        sums[n][2 * half + 1] *= shrink;
      }
    }
    add_weighted<HS>(sums, scores, keys + kTileElements);
    __syncthreads();
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] = row_sum(total[half]);
    const int query = block_first + row + lane / 4 + half * 8;
    if (lane % 4 == 0 && query < s.T) {
      head_numbers(log_sum_exp, s, b, h)[query] = top[half] * s.scale + kLn2 * log2f(total[half]);
    }
  }
  put<HS>(head_rows(out, s, b, h), s.C, queries, row, sums, 1.0f / total[0], 1.0f / total[1],
          block_first + row, s);
}

// Two sets of rows; two stages of two tiles, each with two numbers a query.
template <int HS>
constexpr size_t kBackwardBytes =
    2 * (kRows + 2 * kInner<HS>)*kPitch<HS> * sizeof(bf16) + 4 * kRows * sizeof(float);

// Blocks that the registers of one multiprocessor shall hold: what shared memory lets in, too.
template <int HS, bool kKeys>
constexpr int kBackwardBlocks = kKeys ? (HS == 32 ? 3 : 2) : (HS == 128 ? 3 : 4);

// kKeys: rows are keys, tiles are queries, the results dk and dv; else rows are queries, tiles are
// keys, the result dq.
template <int HS, bool kKeys>
__global__ void __launch_bounds__(kThreads, (kBackwardBlocks<HS, kKeys>))
    backward_kernel(AttentionGradients<bf16> a, AttentionShape s) {
  constexpr int kTile = kInner<HS>, N = kTile / 8;
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp * kWarpRows;
  const int h = blockIdx.y, b = blockIdx.z;
  const int block_first = static_cast<int>(kKeys ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * kRows;
  const HeadRows<const bf16> head(a.qkv, s, b, h);
  const bf16* dout = head_rows(a.dout, s, b, h);
  const float* log_sum_exp = head_numbers(a.log_sum_exp, s, b, h);
  float* row_dot = head_numbers(a.row_dot, s, b, h);
  constexpr int kTileElements = kTile * kPitch<HS>;
  auto* rows1 = shared_memory<bf16>();        // queries, or keys
  bf16* rows2 = rows1 + kRows * kPitch<HS>;   // dout, or values
  bf16* stages = rows2 + kRows * kPitch<HS>;  // keys and values, or queries and dout, twice
  // Of the queries: the log-sum-exp and out . dout. Tiles of queries bring theirs, twice too.
  auto* numbers = reinterpret_cast<float*>(stages + 4 * kTileElements);
  const int begin = kKeys ? block_first / kTile : 0;
  const int end = ceil_div(kKeys ? s.T : min(s.T, block_first + kRows), kTile);
  const auto begin_stage = [&](int tile) {
    const int first = tile * kTile;
    bf16* tile1 = stages + tile % 2 * 2 * kTileElements;
    bf16* tile2 = tile1 + kTileElements;
    begin_fetch<HS, kTile>(tile1, kKeys ? head.q : head.k, head.pitch, first, s);
    begin_fetch<HS, kTile>(tile2, kKeys ? dout : head.v, kKeys ? s.C : head.pitch, first, s);
    if (kKeys && threadIdx.x < 2 * kTile) {
      const int r = threadIdx.x % kTile, query = min(first + r, s.T - 1);
      const float* from = threadIdx.x < kTile ? log_sum_exp : row_dot;
      copy_async_4(numbers + tile % 2 * 2 * kRows + threadIdx.x / kTile * kRows + r, from + query,
                   first + r < s.T ? 4 : 0);
    }
    copy_commit();
  };

  begin_fetch<HS, kRows>(rows1, kKeys ? head.k : head.q, head.pitch, block_first, s);
  begin_fetch<HS, kRows>(rows2, kKeys ? head.v : dout, kKeys ? head.pitch : s.C, block_first, s);
  begin_stage(begin);
  if constexpr (!kKeys) {
    constexpr int kChunks = HS / 8;  // lanes of a row
    const bf16* out = head_rows(a.out, s, b, h);
#pragma unroll
    for (int i = lane; i < kWarpRows * kChunks; i += kWarp) {
      const int r = row + i / kChunks, c = i % kChunks * 8, query = block_first + r;
      float sum = 0;
      if (query < s.T && c < s.hs) {
        float x[8], dx[8];
        load(out + int64_t{query} * s.C + c, x);
        load(dout + int64_t{query} * s.C + c, dx);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += x[j] * dx[j];
      }
#pragma unroll
      for (int step = kChunks / 2; step > 0; step /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
      }
      if (i % kChunks == 0) {
        numbers[r] = query < s.T ? log_sum_exp[query] : 0.0f;
        numbers[kRows + r] = sum;
        if (query < s.T) row_dot[query] = sum;
      }
    }
  }
  const float scale = s.scale * kLog2e;
  float sums1[HS / 8][4] = {}, sums2[kKeys ? HS / 8 : 1][4] = {};
  for (int tile = begin; tile < end; ++tile) {
    if (tile + 1 < end) {
      begin_stage(tile + 1);
      copy_wait<1>();
    } else {
      copy_wait<0>();
    }
    __syncthreads();
    const bf16* tile1 = stages + tile % 2 * 2 * kTileElements;
    const bf16* tile2 = tile1 + kTileElements;
    const float* lse = numbers + (kKeys ? tile % 2 * 2 * kRows : 0);
    const float* dot = lse + kRows;
    const int first = tile * kTile;
    float weights[N][4] = {}, dscores[N][4] = {};
    add_row_products<HS>(weights, rows1, row, tile1);
    add_row_products<HS>(dscores, rows2, row, tile2);
    const bool on_diagonal = first < block_first + kRows && block_first < first + kTile;
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = row + lane / 4 + i / 2 * 8, c = n * 8 + lane % 4 * 2 + i % 2;
        const int q = kKeys ? c : r;
        float weight = fast_exp2(weights[n][i] * scale - lse[q] * kLog2e);
        if (on_diagonal && (kKeys ? block_first + r > first + c : first + c > block_first + r)) {
          weight = 0;
        }
        weights[n][i] = weight;
        dscores[n][i] = weight * (dscores[n][i] - dot[q]);
      }
    }
    add_weighted<HS>(sums1, dscores, tile1);
    if constexpr (kKeys) add_weighted<HS>(sums2, weights, tile2);
    __syncthreads();
  }
  const HeadRows<bf16> gradient(a.dqkv, s, b, h);
  const int first = block_first + row;
  put<HS>(kKeys ? gradient.k : gradient.q, gradient.pitch, rows1, row, sums1, s.scale, s.scale,
          first, s);
  if constexpr (kKeys) {
    put<HS>(gradient.v, gradient.pitch, rows2, row, sums2, 1.0f, 1.0f, first, s);
  }
}

}  // namespace pyllmc::cuda::tensor
