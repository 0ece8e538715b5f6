// Attention in fp32 for any size of head up to 256: a warp has a few rows of queries (or keys), its
// lanes the 32 keys (or queries) of a tile in shared memory; sums over a tile's rows go in order.
#pragma once

#include "ops/attention/attention_cuda.cuh"

namespace pyllmc::cuda::plain {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kMostHeadSize = 256;

// kDims is the number of channels that a lane sums up.
template <int kDims>
constexpr int kEach = kDims > 4 ? 2 : 4;  // rows of a warp
template <int kDims>
constexpr int kRows = kWarps * kEach<kDims>;  // rows of a block

// Two tiles of kWarp rows with a float of padding, two sets of rows, two sets of weights.
inline size_t shared_bytes(int rows, int hs) {
  return sizeof(float) * static_cast<size_t>(2 * kWarp * (hs + 1) + 2 * rows * (hs + kWarp));
}
struct Shared {
  float *tile1, *tile2;        // (kWarp, hs + 1)
  float *rows1, *rows2;        // (rows, hs)
  float *weights1, *weights2;  // (rows, kWarp)
  __device__ Shared(int rows, int hs)
      : tile1(shared_memory<float>()),
        tile2(tile1 + kWarp * (hs + 1)),
        rows1(tile2 + kWarp * (hs + 1)),
        rows2(rows1 + rows * hs),
        weights1(rows2 + rows * hs),
        weights2(weights1 + rows * kWarp) {}
};

// Positions [first, first + count) of a head; zeros from T on.
template <class T>
__device__ __forceinline__ void fetch(float* to, int to_pitch, const T* from, int64_t pitch,
                                      int first, int count, const AttentionShape& s) {
  for (int i = threadIdx.x; i < count * s.hs; i += kThreads) {
    const int r = i / s.hs, d = i % s.hs;
    to[r * to_pitch + d] = first + r < s.T ? to_float(from[(first + r) * pitch + d]) : 0.0f;
  }
}

// dot[r] = row r of the warp . the lane's row of the tile.
template <int kCount>
__device__ __forceinline__ void dots(float (&dot)[kCount], const float* rows, const float* tile,
                                     int hs) {
  for (float& sum : dot) sum = 0;
  for (int d = 0; d < hs; ++d) {
    const float other = tile[d];
#pragma unroll
    for (int r = 0; r < kCount; ++r) dot[r] += rows[r * hs + d] * other;
  }
}

// sums[r][i] += weights of row r . column lane + 32 i of the tile.
template <int kDims>
__device__ __forceinline__ void add_weighted(float (&sums)[kEach<kDims>][kDims],
                                             const float* weights, const float* tile, int hs) {
  const int lane = threadIdx.x % kWarp;
  for (int j = 0; j < kWarp; ++j) {
#pragma unroll
    for (int i = 0; i < kDims; ++i) {
      const int d = lane + kWarp * i;
      const float value = d < hs ? tile[j * (hs + 1) + d] : 0.0f;
#pragma unroll
      for (int r = 0; r < kEach<kDims>; ++r) sums[r][i] += weights[r * kWarp + j] * value;
    }
  }
}

// Rows of the warp to positions first, first + 1, ... below T.
template <int kDims, class T>
__device__ __forceinline__ void put(T* to, int64_t pitch, const float (&sums)[kEach<kDims>][kDims],
                                    int first, const AttentionShape& s) {
#pragma unroll
  for (int r = 0; r < kEach<kDims>; ++r) {
#pragma unroll
    for (int i = 0; i < kDims; ++i) {
      const int d = threadIdx.x % kWarp + kWarp * i;
      if (first + r < s.T && d < s.hs) to[(first + r) * pitch + d] = from_float<T>(sums[r][i]);
    }
  }
}

template <int kDims, class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ qkv, T* __restrict__ out, float* __restrict__ log_sum_exp,
                   AttentionShape s) {
  constexpr int kRowsEach = kEach<kDims>, kBlockRows = kRows<kDims>;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int h = blockIdx.y, b = blockIdx.z;
  const int block_first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows;
  const int first = block_first + warp * kRowsEach;
  const HeadRows<const T> head(qkv, s, b, h);
  const Shared shared(kBlockRows, s.hs);
  fetch(shared.rows1, s.hs, head.q, head.pitch, block_first, kBlockRows, s);
  float top[kRowsEach], total[kRowsEach] = {}, sums[kRowsEach][kDims] = {};
  for (float& value : top) value = -INFINITY;
  const int seen = min(s.T, block_first + kBlockRows);
  for (int key = 0; key < seen; key += kWarp) {
    __syncthreads();
    fetch(shared.tile1, s.hs + 1, head.k, head.pitch, key, kWarp, s);
    fetch(shared.tile2, s.hs + 1, head.v, head.pitch, key, kWarp, s);
    __syncthreads();
    float scores[kRowsEach];
    dots(scores, shared.rows1 + warp * kRowsEach * s.hs, shared.tile1 + lane * (s.hs + 1), s.hs);
    float* weights = shared.weights1 + warp * kRowsEach * kWarp;
#pragma unroll
    for (int r = 0; r < kRowsEach; ++r) {
      const float score = key + lane <= first + r ? scores[r] * s.scale : -INFINITY;
      const float higher = fmaxf(top[r], warp_max(score));
      const float weight = expf(score - higher), shrink = expf(top[r] - higher);
      top[r] = higher;
      total[r] = total[r] * shrink + warp_sum(weight);
      for (float& sum : sums[r]) sum *= shrink;
      weights[r * kWarp + lane] = weight;
    }
    __syncwarp();
    add_weighted(sums, weights, shared.tile2, s.hs);
  }
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r) {
    for (float& sum : sums[r]) sum /= total[r];
    if (lane == 0 && first + r < s.T) {
      head_numbers(log_sum_exp, s, b, h)[first + r] = top[r] + logf(total[r]);
    }
  }
  put(head_rows(out, s, b, h), s.C, sums, first, s);
}

// Blocks that the registers of one multiprocessor shall hold: wide heads fill its shared memory
// with as many, for others (0) the compiler chooses.
template <int kDims>
constexpr int kBackwardBlocks = kDims < 4 ? 0 : 4;

// kKeys: rows are keys, tiles are queries, the results dk and dv; else rows are queries, tiles are
// keys, the result dq.
template <int kDims, bool kKeys, class T>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<kDims>)
    backward_kernel(AttentionGradients<T> a, AttentionShape s) {
  constexpr int kRowsEach = kEach<kDims>, kBlockRows = kRows<kDims>;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int h = blockIdx.y, b = blockIdx.z;
  const int block_first =
      static_cast<int>(kKeys ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * kBlockRows;
  const int first = block_first + warp * kRowsEach;
  const HeadRows<const T> head(a.qkv, s, b, h);
  const T* dout = head_rows(a.dout, s, b, h);
  const float* log_sum_exp = head_numbers(a.log_sum_exp, s, b, h);
  float* row_dot = head_numbers(a.row_dot, s, b, h);
  const Shared shared(kBlockRows, s.hs);
  fetch(shared.rows1, s.hs, kKeys ? head.k : head.q, head.pitch, block_first, kBlockRows, s);
  fetch(shared.rows2, s.hs, kKeys ? head.v : dout, kKeys ? head.pitch : s.C, block_first,
        kBlockRows, s);
  float own_dot[kRowsEach] = {};
  if constexpr (!kKeys) {
    const T* out = head_rows(a.out, s, b, h);
#pragma unroll
    for (int r = 0; r < kRowsEach; ++r) {
      if (first + r >= s.T) continue;
      const int64_t row = int64_t{first + r} * s.C;
      for (int d = lane; d < s.hs; d += kWarp) {
        own_dot[r] += to_float(out[row + d]) * to_float(dout[row + d]);
      }
      own_dot[r] = warp_sum(own_dot[r]);
      if (lane == 0) row_dot[first + r] = own_dot[r];
    }
  }
  float sums1[kRowsEach][kDims] = {}, sums2[kRowsEach][kDims] = {};
  const int begin = kKeys ? block_first / kWarp * kWarp : 0;
  const int end = kKeys ? s.T : min(s.T, block_first + kBlockRows);
  for (int tile = begin; tile < end; tile += kWarp) {
    __syncthreads();
    fetch(shared.tile1, s.hs + 1, kKeys ? head.q : head.k, head.pitch, tile, kWarp, s);
    fetch(shared.tile2, s.hs + 1, kKeys ? dout : head.v, kKeys ? s.C : head.pitch, tile, kWarp, s);
    __syncthreads();
    float scores[kRowsEach], dweights[kRowsEach];
    dots(scores, shared.rows1 + warp * kRowsEach * s.hs, shared.tile1 + lane * (s.hs + 1), s.hs);
    dots(dweights, shared.rows2 + warp * kRowsEach * s.hs, shared.tile2 + lane * (s.hs + 1), s.hs);
    float* dscores = shared.weights1 + warp * kRowsEach * kWarp;
    float* weights = shared.weights2 + warp * kRowsEach * kWarp;
#pragma unroll
    for (int r = 0; r < kRowsEach; ++r) {
      const int query = kKeys ? tile + lane : first + r, key = kKeys ? first + r : tile + lane;
      float weight = 0, dscore = 0;
      if (key <= query && query < s.T) {
        weight = expf(scores[r] * s.scale - log_sum_exp[query]);
        dscore = weight * (dweights[r] - (kKeys ? row_dot[query] : own_dot[r])) * s.scale;
      }
      dscores[r * kWarp + lane] = dscore;
      if constexpr (kKeys) weights[r * kWarp + lane] = weight;
    }
    __syncwarp();
    add_weighted(sums1, dscores, shared.tile1, s.hs);
    if constexpr (kKeys) add_weighted(sums2, weights, shared.tile2, s.hs);
  }
  const HeadRows<T> gradient(a.dqkv, s, b, h);
  put(kKeys ? gradient.k : gradient.q, gradient.pitch, sums1, first, s);
  if constexpr (kKeys) put(gradient.v, gradient.pitch, sums2, first, s);
}

// A block a head, for one new position: its key and value join the cache, then its query meets all.
template <class T>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const T* __restrict__ qkv, T* keys, T* values,
                  const int32_t* __restrict__ position, T* __restrict__ out, AttentionShape s,
                  int capacity) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int begin = static_cast<int>(blockIdx.x) * s.hs, last = *position;
  auto* scores = shared_memory<float>();   // (capacity)
  float* parts = scores + capacity;        // (kWarps, hs)
  float* scratch = parts + kWarps * s.hs;  // (kWarp)
  for (int d = threadIdx.x; d < s.hs; d += kThreads) {
    keys[int64_t{last} * s.C + begin + d] = qkv[s.C + begin + d];
    values[int64_t{last} * s.C + begin + d] = qkv[2 * s.C + begin + d];
  }
  __syncthreads();
  float top = -INFINITY;
  for (int key = warp; key <= last; key += kWarps) {
    float dot = 0;
    for (int d = lane; d < s.hs; d += kWarp) {
      dot += to_float(qkv[begin + d]) * to_float(keys[int64_t{key} * s.C + begin + d]);
    }
    dot = warp_sum(dot) * s.scale;
    if (lane == 0) scores[key] = dot;
    top = fmaxf(top, dot);
  }
  top = block_max(top, scratch);
  float total = 0;
  for (int key = threadIdx.x; key <= last; key += kThreads) {
    const float weight = expf(scores[key] - top);
    scores[key] = weight;
    total += weight;
  }
  total = block_sum(total, scratch);
  for (int d = lane; d < s.hs; d += kWarp) {
    float sum = 0;
    for (int key = warp; key <= last; key += kWarps) {
      sum += scores[key] * to_float(values[int64_t{key} * s.C + begin + d]);
    }
    parts[warp * s.hs + d] = sum;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < s.hs; d += kThreads) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += parts[w * s.hs + d];
    out[begin + d] = from_float<T>(sum / total);
  }
}

inline size_t decode_shared_bytes(int64_t capacity, int64_t hs) {
  return sizeof(float) * static_cast<size_t>(capacity + kWarps * hs + kWarp);
}

}  // namespace pyllmc::cuda::plain
