#include <algorithm>
#include <cmath>

#include "core/panels.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/threads.h"
#include "core/transpose.h"
#include "ops/attention/attention.h"

namespace pyllmc {
namespace {

constexpr int64_t kQueries = 48;  // rows of a block of scores

float head_scale(int64_t head_size) { return 1.0f / std::sqrt(static_cast<float>(head_size)); }

// Scores have the form of a packed A: column s of a row whose blocks of 32 are `block` apart. They
// are operands of the next products as they lie.
PYLLMC_INLINE float* score(float* row, int64_t block, int64_t s) {
  return row + s / kBlockUnits * block + s % kBlockUnits;
}

// visit(s, n): the columns [s, s + n), n <= 16, of n_total.
#define PYLLMC_EACH_LANES(N_TOTAL, S, N)                            \
  for (int64_t S = 0, N = std::min(kLanes, N_TOTAL); S < (N_TOTAL); \
       S += kLanes, N = std::min(kLanes, (N_TOTAL) - S))

// Turns a row of scores into softmax weights over the first n columns, 0 from there to `end`;
// returns the log-sum-exp.
PYLLMC_SIMD float softmax_row(float* row, int64_t block, int64_t n, int64_t end, float scale) {
  const float lowest = -__builtin_inff();
  f32x16 high = broadcast(lowest);
  PYLLMC_EACH_LANES(n, s, count) {
    high = max16(high, load_lanes(score(row, block, s), count, lowest));
  }
  const float top = max16(high) * scale;
  f32x16 sums{};
  PYLLMC_EACH_LANES(n, s, count) {
    float* at = score(row, block, s);
    const f32x16 e = exp16(load_lanes(at, count, lowest) * scale - top);
    store16(at, e);  // what lies beyond n is 0
    sums += e;
  }
  const float sum = sum16(sums), inverse = 1.0f / sum;
  int64_t s = 0;
  for (; s < n; s += kLanes) store16(score(row, block, s), load16(score(row, block, s)) * inverse);
  for (; s < end; s += kLanes) store16(score(row, block, s), f32x16{});
  return top + std::log(sum);
}

// p = exp(scale * score - lse), and ds = p (dp - d) scale in place of dp; both 0 from n to `end`.
PYLLMC_SIMD void softmax_backward_row(float* scores, float* dp, int64_t block, int64_t n,
                                      int64_t end, float scale, float lse, float d) {
  const float lowest = -__builtin_inff();
  PYLLMC_EACH_LANES(n, s, count) {
    float *at = score(scores, block, s), *gradient = score(dp, block, s);
    const f32x16 p = exp16(load_lanes(at, count, lowest) * scale - lse);
    store16(at, p);
    store16(gradient, p * (load_lanes(gradient, count, 0) - d) * scale);
  }
  for (int64_t s = ceil_div(n, kLanes) * kLanes; s < end; s += kLanes) {
    store16(score(scores, block, s), f32x16{});
    store16(score(dp, block, s), f32x16{});
  }
}

PYLLMC_SIMD float dot(const float* a, const float* b, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  f32x16 sums{};
  for (int64_t i = 0; i < whole; i += kLanes) sums += load16(a + i) * load16(b + i);
  if (whole < n) sums += load_part(a + whole, n - whole, 0) * load_part(b + whole, n - whole, 0);
  return sum16(sums);
}

// Packed operands of one head, and blocks of scores. Products are fp32 in every precision.
class Head {
 public:
  // In a thread's scratch; null to ask for floats() only.
  Head(float* at, int64_t T, int64_t hs, bool gradients) : scratch_(at), T_(T), hs_(hs) {
    const int64_t blocks = ceil_div(T, kBlockUnits);
    rows_block_ = engine_.a_block(kQueries);
    for (auto& half : halves_) {
      if (&half == &halves_[1] && !gradients) break;
      half.rows = scratch_.take<Unit>(engine_.a_units(kQueries, hs));
      half.keys = scratch_.take<Unit>(engine_.b_units(hs, T, wide_));
      half.scores = scratch_.take(engine_.a_units(kQueries, blocks * kBlockUnits));
    }
    values_ = scratch_.take<Unit>(engine_.b_units(T, hs, wide_));
    if (!gradients) return;
    turned_block_ = ceil_div(hs, wide_.rows) * wide_.rows * kBlockUnits;
    for (auto& half : halves_) {
      half.turned_rows = scratch_.take<Unit>(engine_.a_units(hs, kQueries));
      half.turned = scratch_.take(blocks * turned_block_);
    }
  }

  int64_t floats() const { return scratch_.floats(); }

  // Which of two products of rows (rows, hs) with keys (T, hs): q with k, and dout with v.
  enum Which { scores, gradients };

  // Columns of a row of scores that hold something when `seen` keys are seen.
  static int64_t padded(int64_t seen) { return ceil_div(seen, kBlockUnits) * kBlockUnits; }
  int64_t block() const { return rows_block_; }
  float* row(Which which, int64_t r) const { return halves_[which].scores + r * kBlockUnits; }

  void pack_keys(Which which, const float* keys, int64_t ld) const {
    engine_.pack_b_transposed(keys, ld, hs_, T_, wide_, halves_[which].keys);
  }
  // `values` (T, hs): what sums of weights over keys are made of.
  void pack_values(const float* values, int64_t ld) const {
    engine_.pack_b(values, ld, T_, hs_, wide_, values_);
  }

  // scores[which] (rows, seen) = rows_of (rows, hs) keys^T. Whole blocks: `seen` is rounded up.
  void multiply_keys(Which which, const float* rows_of, int64_t ld, int64_t rows,
                     int64_t seen) const {
    const Half& half = halves_[which];
    engine_.pack_a(rows_of, ld, rows, hs_, half.rows, rows_block_);
    const PackedA a = {half.rows, rows_block_, whole(rows)};
    const int64_t panel = engine_.b_panel_units(hs_, wide_);
    for (int64_t s = 0; s < seen; s += wide_.cols) {
      engine_.multiply(wide_, a, 0, hs_,
                       {half.keys + s / wide_.cols * panel, wide_.cols, wide_.cols},
                       score(half.scores, rows_block_, s), kBlockUnits, false);
    }
  }

  // out (rows, hs) = scores[which] (rows, seen) values.
  void multiply_values(Which which, int64_t rows, int64_t seen, float* out, int64_t ld) const {
    const PackedA a = {reinterpret_cast<const Unit*>(halves_[which].scores), rows_block_, rows};
    const int64_t panel = engine_.b_panel_units(T_, wide_);
    for (int64_t c = 0; c < hs_; c += wide_.cols) {
      engine_.multiply(
          wide_, a, 0, seen,
          {values_ + c / wide_.cols * panel, wide_.cols, std::min(wide_.cols, hs_ - c)}, out + c,
          ld, false);
    }
  }

  void clear_turned() const {
    const int64_t count = ceil_div(T_, kBlockUnits) * turned_block_;
    for (const Half& half : halves_) std::fill_n(half.turned, count, 0.0f);
  }
  // turned[which] (hs, T) += rows_of^T (hs, rows) scores[which] (rows, seen).
  void add_turned(Which which, const float* rows_of, int64_t ld, int64_t rows, int64_t seen) const {
    const Half& half = halves_[which];
    engine_.pack_a_transposed(rows_of, ld, hs_, rows, half.turned_rows, engine_.a_block(hs_));
    const PackedA a = {half.turned_rows, engine_.a_block(hs_), whole(hs_)};
    for (int64_t s = 0; s < seen; s += wide_.cols) {
      const float* panel = score(half.scores, rows_block_, s);
      engine_.multiply(wide_, a, 0, rows,
                       {reinterpret_cast<const Unit*>(panel), kBlockUnits, wide_.cols},
                       score(half.turned, turned_block_, s), kBlockUnits, true);
    }
  }
  // out (T, hs) = turned[which]^T.
  void turn_back(Which which, float* out, int64_t ld) const {
    for (int64_t s = 0; s < T_; s += kBlockUnits) {
      transpose(halves_[which].turned + s / kBlockUnits * turned_block_, kBlockUnits, hs_,
                std::min(kBlockUnits, T_ - s), out + s * ld, ld);
    }
  }

 private:
  // Rows of whole tiles: what the last one makes of rows that are not there is never read.
  int64_t whole(int64_t rows) const { return ceil_div(rows, wide_.rows) * wide_.rows; }

  struct Half {
    Unit *rows, *keys, *turned_rows;
    float *scores, *turned;
  };
  const PanelEngine& engine_ = PanelEngine::get(Precision::fp32);
  const PanelEngine::Tile& wide_ = engine_.wide();
  Scratch scratch_;
  int64_t T_, hs_, rows_block_, turned_block_ = 0;
  Half halves_[2] = {};
  Unit* values_;
};

int64_t workspace(const Context& context, int64_t, int64_t T, int64_t channels, int64_t heads) {
  return std::max(context.threads * Head(nullptr, T, channels / heads, true).floats(),
                  heads * ceil_div(T, kLanes) * kLanes);
}

// Calls work(head, b, h) for every head of every sequence.
template <class Work>
void each_head(const Context& context, int64_t B, int64_t T, int64_t C, int64_t NH, bool gradients,
               const Work& work) {
  float* scratch = context.scratch("attention", workspace(context, B, T, C, NH));
  const int64_t floats = Head(nullptr, T, C / NH, true).floats();
  parallel_for(context.threads, B * NH, [&](int64_t item, int thread) {
    work(Head(scratch + thread * floats, T, C / NH, gradients), item / NH, item % NH);
  });
}

// A block of queries sees the keys up to its own last one: what lies above the diagonal is skipped
// by whole blocks and zeroed inside the last one.
void forward(const Context& context, const AttentionForward& a) {
  const int64_t B = a.out.dim(0), T = a.out.dim(1), C = a.out.dim(2);
  const int64_t NH = a.log_sum_exp.dim(1), hs = C / NH, C3 = 3 * C;
  const float scale = head_scale(hs);
  each_head(context, B, T, C, NH, false, [&](const Head& head, int64_t b, int64_t h) {
    const float* q = a.qkv.data() + b * T * C3 + h * hs;
    float* out = a.out.data() + b * T * C + h * hs;
    float* lse = a.log_sum_exp.data() + (b * NH + h) * T;
    head.pack_keys(Head::scores, q + C, C3);
    head.pack_values(q + 2 * C, C3);
    for (int64_t t0 = 0; t0 < T; t0 += kQueries) {
      const int64_t rows = std::min(kQueries, T - t0), seen = t0 + rows;
      head.multiply_keys(Head::scores, q + t0 * C3, C3, rows, seen);
      for (int64_t r = 0; r < rows; ++r) {
        lse[t0 + r] = softmax_row(head.row(Head::scores, r), head.block(), t0 + r + 1,
                                  Head::padded(seen), scale);
      }
      head.multiply_values(Head::scores, rows, seen, out + t0 * C, C);
    }
  });
}

void backward(const Context& context, const AttentionBackward& a) {
  const int64_t B = a.out.dim(0), T = a.out.dim(1), C = a.out.dim(2);
  const int64_t NH = a.log_sum_exp.dim(1), hs = C / NH, C3 = 3 * C;
  const float scale = head_scale(hs);
  each_head(context, B, T, C, NH, true, [&](const Head& head, int64_t b, int64_t h) {
    const float* q = a.qkv.data() + b * T * C3 + h * hs;
    float* dq = a.dqkv.data() + b * T * C3 + h * hs;
    const float* out = a.out.data() + b * T * C + h * hs;
    const float* dout = a.dout.data() + b * T * C + h * hs;
    const float* lse = a.log_sum_exp.data() + (b * NH + h) * T;
    head.pack_keys(Head::scores, q + C, C3);
    head.pack_keys(Head::gradients, q + 2 * C, C3);
    head.pack_values(q + C, C3);
    head.clear_turned();
    for (int64_t t0 = 0; t0 < T; t0 += kQueries) {
      const int64_t rows = std::min(kQueries, T - t0), seen = t0 + rows;
      head.multiply_keys(Head::scores, q + t0 * C3, C3, rows, seen);
      head.multiply_keys(Head::gradients, dout + t0 * C, C, rows, seen);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t t = t0 + r;
        // sum_s p dp = out . dout
        const float d = dot(out + t * C, dout + t * C, hs);
        softmax_backward_row(head.row(Head::scores, r), head.row(Head::gradients, r), head.block(),
                             t + 1, Head::padded(seen), scale, lse[t], d);
      }
      head.multiply_values(Head::gradients, rows, seen, dq + t0 * C3, C3);
      head.add_turned(Head::gradients, q + t0 * C3, C3, rows, seen);  // dk = ds^T q
      head.add_turned(Head::scores, dout + t0 * C, C, rows, seen);    // dv = p^T dout
    }
    head.turn_back(Head::gradients, dq + C, C3);
    head.turn_back(Head::scores, dq + 2 * C, C3);
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
  softmax_row(scores, kBlockUnits, positions, positions, head_scale(hs));
  for (int64_t c = 0; c < hs; c += kLanes) {
    const int64_t n = hs - c < kLanes ? hs - c : kLanes;
    f32x16 sums[4] = {};  // of every fourth position
    int64_t s = 0;
    for (; n == kLanes && s + 4 <= positions; s += 4) {
      for (int i = 0; i < 4; ++i) {
        sums[i] += scores[s + i] * load16(values + (s + i) * ld + c);
      }
    }
    for (; s < positions; ++s) sums[0] += scores[s] * load_lanes(values + s * ld + c, n, 0);
    const f32x16 sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    store_part(out + c, sum, n);
  }
}

void decode(const Context& context, const AttentionDecode& a) {
  const int64_t positions = *a.position + 1, C = a.out.dim(1), hs = C / a.heads;
  const int64_t row = ceil_div(positions, kLanes) * kLanes;
  float* workspace = context.scratch("attention", a.heads * row);
  std::copy_n(a.qkv.data() + C, C, a.keys.data() + *a.position * C);
  std::copy_n(a.qkv.data() + 2 * C, C, a.values.data() + *a.position * C);
  parallel_for(context.threads, a.heads, [&](int64_t h, int) {
    const int64_t at = h * hs;
    decode_head(a.qkv.data() + at, a.keys.data() + at, a.values.data() + at, C, positions, hs,
                workspace + h * row, a.out.data() + at);
  });
}

}  // namespace

const AttentionKernels attention_cpu = {forward, backward, decode, workspace};

}  // namespace pyllmc
