#include <algorithm>
#include <cmath>

#include "core/gemm.h"
#include "core/simd.h"
#include "core/threads.h"
#include "ops/attention/attention.h"

namespace pyllmc {
namespace {

constexpr int64_t kQueries = 64;  // rows of a block of scores

// Turns row scores into softmax weights over the first n entries; returns the log-sum-exp.
PYLLMC_SIMD float softmax_row(float* scores, int64_t n, float scale) {
  const int64_t whole = n / kLanes * kLanes, rest = n - whole;
  const float lowest = -__builtin_inff();
  f32x16 high = broadcast(lowest);
  for (int64_t s = 0; s < whole; s += kLanes) high = max16(high, load16(scores + s));
  if (rest) high = max16(high, load_part(scores + whole, rest, lowest));
  const float top = max16(high) * scale;
  f32x16 sums{};
  for (int64_t s = 0; s < whole; s += kLanes) {
    const f32x16 e = exp16(load16(scores + s) * scale - top);
    store16(scores + s, e);
    sums += e;
  }
  if (rest) {
    const f32x16 e = exp16(load_part(scores + whole, rest, lowest) * scale - top);
    store_part(scores + whole, e, rest);
    sums += e;
  }
  const float sum = sum16(sums), inverse = 1.0f / sum;
  for (int64_t s = 0; s < n; ++s) scores[s] *= inverse;
  return top + std::log(sum);
}

// p = exp(scale * score - lse), and ds = p (dp - d) scale in place of dp.
PYLLMC_SIMD void softmax_backward_row(float* scores, float* dp, int64_t n, float scale, float lse,
                                      float d) {
  const int64_t whole = n / kLanes * kLanes, rest = n - whole;
  for (int64_t s = 0; s < whole; s += kLanes) {
    const f32x16 p = exp16(load16(scores + s) * scale - lse);
    store16(scores + s, p);
    store16(dp + s, p * (load16(dp + s) - d) * scale);
  }
  if (rest) {
    const f32x16 p = exp16(load_part(scores + whole, rest, 0) * scale - lse);
    store_part(scores + whole, p, rest);
    store_part(dp + whole, p * (load_part(dp + whole, rest, 0) - d) * scale, rest);
  }
}

PYLLMC_SIMD float dot(const float* a, const float* b, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  f32x16 sums{};
  for (int64_t i = 0; i < whole; i += kLanes) sums += load16(a + i) * load16(b + i);
  if (whole < n) sums += load_part(a + whole, n - whole, 0) * load_part(b + whole, n - whole, 0);
  return sum16(sums);
}

float head_scale(int64_t head_size) { return 1.0f / std::sqrt(static_cast<float>(head_size)); }

// A block of queries sees the keys up to its own last one: what lies above the diagonal is skipped
// by whole blocks and zeroed inside the last one.
void forward(const Context& context, const AttentionForward& a) {
  const int64_t B = a.out.dim(0), T = a.out.dim(1), C = a.out.dim(2);
  const int64_t NH = a.log_sum_exp.dim(1), hs = C / NH, C3 = 3 * C;
  const float scale = head_scale(hs);
  float* workspace = context.scratch("attention", attention_workspace(context, T, NH));
  parallel_for(context.threads, B * NH, [&](int64_t item, int thread) {
    const int64_t b = item / NH, h = item % NH;
    const float* q = a.qkv.data() + b * T * C3 + h * hs;
    const float *k = q + C, *v = q + 2 * C;
    float* out = a.out.data() + b * T * C + h * hs;
    float* lse = a.log_sum_exp.data() + item * T;
    float* scores = workspace + thread * 2 * kQueries * T;
    for (int64_t t0 = 0; t0 < T; t0 += kQueries) {
      const int64_t rows = std::min(kQueries, T - t0), seen = t0 + rows;
      gemm(Trans::no, Trans::yes, rows, seen, hs, q + t0 * C3, C3, k, C3, 0.0f, scores, seen);
      for (int64_t r = 0; r < rows; ++r) {
        float* row = scores + r * seen;
        lse[t0 + r] = softmax_row(row, t0 + r + 1, scale);
        std::fill(row + t0 + r + 1, row + seen, 0.0f);
      }
      gemm(Trans::no, Trans::no, rows, hs, seen, scores, seen, v, C3, 0.0f, out + t0 * C, C);
    }
  });
}

void backward(const Context& context, const AttentionBackward& a) {
  const int64_t B = a.out.dim(0), T = a.out.dim(1), C = a.out.dim(2);
  const int64_t NH = a.log_sum_exp.dim(1), hs = C / NH, C3 = 3 * C;
  const float scale = head_scale(hs);
  float* workspace = context.scratch("attention", attention_workspace(context, T, NH));
  parallel_for(context.threads, B * NH, [&](int64_t item, int thread) {
    const int64_t b = item / NH, h = item % NH;
    const float* q = a.qkv.data() + b * T * C3 + h * hs;
    const float *k = q + C, *v = q + 2 * C;
    float* dq = a.dqkv.data() + b * T * C3 + h * hs;
    float *dk = dq + C, *dv = dq + 2 * C;
    const float* out = a.out.data() + b * T * C + h * hs;
    const float* dout = a.dout.data() + b * T * C + h * hs;
    const float* lse = a.log_sum_exp.data() + item * T;
    float* scores = workspace + thread * 2 * kQueries * T;
    float* dp = scores + kQueries * T;
    for (int64_t t = 0; t < T; ++t) {
      std::fill(dk + t * C3, dk + t * C3 + hs, 0.0f);
      std::fill(dv + t * C3, dv + t * C3 + hs, 0.0f);
    }
    for (int64_t t0 = 0; t0 < T; t0 += kQueries) {
      const int64_t rows = std::min(kQueries, T - t0), seen = t0 + rows;
      gemm(Trans::no, Trans::yes, rows, seen, hs, q + t0 * C3, C3, k, C3, 0.0f, scores, seen);
      gemm(Trans::no, Trans::yes, rows, seen, hs, dout + t0 * C, C, v, C3, 0.0f, dp, seen);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t t = t0 + r, n = t + 1;
        // sum_s p dp = out . dout
        const float d = dot(out + t * C, dout + t * C, hs);
        softmax_backward_row(scores + r * seen, dp + r * seen, n, scale, lse[t], d);
        std::fill(scores + r * seen + n, scores + (r + 1) * seen, 0.0f);
        std::fill(dp + r * seen + n, dp + (r + 1) * seen, 0.0f);
      }
      gemm(Trans::no, Trans::no, rows, hs, seen, dp, seen, k, C3, 0.0f, dq + t0 * C3, C3);
      gemm(Trans::yes, Trans::no, seen, hs, rows, dp, seen, q + t0 * C3, C3, 1.0f, dk, C3);
      gemm(Trans::yes, Trans::no, seen, hs, rows, scores, seen, dout + t0 * C, C, 1.0f, dv, C3);
    }
  });
}

// One head: `keys` and `values` are its columns of (positions, C), `scores` has room for positions.
PYLLMC_SIMD void decode_head(const float* q, const float* keys, const float* values, int64_t ld,
                             int64_t positions, int64_t hs, float* scores, float* out) {
  for (int64_t s = 0; s < positions; s += 4) {
    const int64_t count = positions - s < 4 ? positions - s : 4;
    f32x16 sums[4] = {};
    for (int64_t i = 0; i < count; ++i) {
      const float* k = keys + (s + i) * ld;
      for (int64_t c = 0; c < hs; c += kLanes) {
        const bool full = hs - c >= kLanes;
        sums[i] += full ? load16(q + c) * load16(k + c)
                        : load_part(q + c, hs - c, 0) * load_part(k + c, hs - c, 0);
      }
    }
    float dots[4];
    sum16_of_four(sums, dots);
    std::memcpy(scores + s, dots, static_cast<size_t>(count) * sizeof(float));
  }
  softmax_row(scores, positions, head_scale(hs));
  for (int64_t c = 0; c < hs; c += kLanes) {
    const int64_t n = hs - c < kLanes ? hs - c : kLanes;
    f32x16 sum{};
    for (int64_t s = 0; s < positions; ++s) {
      const float* v = values + s * ld + c;
      sum += scores[s] * (n == kLanes ? load16(v) : load_part(v, n, 0));
    }
    store_part(out + c, sum, n);
  }
}

void decode(const Context& context, const AttentionDecode& a) {
  const int64_t positions = a.keys.dim(0), C = a.out.dim(1), hs = C / a.heads;
  float* workspace = context.scratch("attention", attention_workspace(context, positions, a.heads));
  parallel_for(context.threads, a.heads, [&](int64_t h, int) {
    const int64_t at = h * hs;
    decode_head(a.qkv.data() + at, a.keys.data() + at, a.values.data() + at, C, positions, hs,
                workspace + h * positions, a.out.data() + at);
  });
}

}  // namespace

const AttentionKernels attention_cpu = {forward, backward, decode};

int64_t attention_workspace(const Context& context, int64_t positions, int64_t heads) {
  return std::max(context.threads * 2 * kQueries * positions, heads * positions);
}

}  // namespace pyllmc
