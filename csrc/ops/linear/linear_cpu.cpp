#include "ops/linear/linear_cpu.h"

#include <algorithm>

#include "core/bf16.h"

namespace pyllmc {
namespace {

constexpr int64_t kTurnedRows = 16;   // rows of dw that are turned from dw^T at once
constexpr int64_t kLeastInputs = 48;  // whose columns of dw are a work item

// Outputs whose rows of dw one work item sums.
int64_t output_block(int64_t N) { return N >= 1024 ? 128 : N >= 512 ? 64 : 32; }

// Weights are asked for this many bytes ahead, in the order of memory.
constexpr int64_t kAhead = 16 << 10;

// sums[i] = x . w[i] for four rows of w, `ld` apart.
PYLLMC_INLINE void four_dots(const float* w, int64_t ld, const float* x, int64_t K, float sums[4]) {
  const int64_t unrolled = K / (2 * kLanes) * (2 * kLanes), whole = K / kLanes * kLanes;
  const float* ahead = w + kAhead / sizeof(float);
  f32x16 even[4] = {}, odd[4] = {};
  for (int64_t k = 0; k < unrolled; k += 2 * kLanes) {
    const f32x16 first = load16(x + k), second = load16(x + k + kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, ahead += 2 * kLanes) {
      __builtin_prefetch(ahead);
      __builtin_prefetch(ahead + kLanes);
      even[i] += load16(w + i * ld + k) * first;
      odd[i] += load16(w + i * ld + k + kLanes) * second;
    }
  }
  if (unrolled < whole) {
    for (int i = 0; i < 4; ++i) even[i] += load16(w + i * ld + unrolled) * load16(x + unrolled);
  }
  if (const int64_t rest = K - whole) {
    const f32x16 last = load_part(x + whole, rest, 0);
    for (int i = 0; i < 4; ++i) odd[i] += load_part(w + i * ld + whole, rest, 0) * last;
  }
  for (int i = 0; i < 4; ++i) even[i] += odd[i];
  sum16_of_four(even, sums);
}

// The same of bf16: sixteen words of two, whose halves become fp32 by moving them into place, so
// the even and the odd inputs are summed apart. K is even.
PYLLMC_INLINE void four_dots_bf16(const uint16_t* w, int64_t ld, const float* even,
                                  const float* odd, int64_t K, float sums[4]) {
  const int64_t whole = K / (2 * kLanes) * (2 * kLanes);
  const uint16_t* ahead = w + kAhead / sizeof(uint16_t);
  f32x16 low_sum[4] = {}, high_sum[4] = {};
  const auto add = [&](int64_t k, int64_t bytes) PYLLMC_INLINE_LAMBDA {
    const f32x16 x_low = load16(even + k / 2), x_high = load16(odd + k / 2);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, ahead += 2 * kLanes) {
      __builtin_prefetch(ahead);
      i32x16 words{};
      std::memcpy(&words, w + i * ld + k, static_cast<size_t>(bytes));
      const i32x16 low_bits = words << 16, high_bits = words & static_cast<int32_t>(0xffff0000u);
      f32x16 low, high;
      std::memcpy(&low, &low_bits, sizeof low);
      std::memcpy(&high, &high_bits, sizeof high);
      low_sum[i] += low * x_low;
      high_sum[i] += high * x_high;
    }
  };
  for (int64_t k = 0; k < whole; k += 2 * kLanes) add(k, sizeof(i32x16));
  if (whole < K) add(whole, (K - whole) * 2);
  for (int i = 0; i < 4; ++i) low_sum[i] += high_sum[i];
  sum16_of_four(low_sum, sums);
}

// y[row, n] = x[row] . w[n] for a handful of rows: the weight is read once, at memory speed.
PYLLMC_SIMD void dot_products(const LinearForward& a, int64_t n_begin, int64_t n_end) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  for (int64_t row = 0; row < M; ++row) {
    const float *x = a.x.data() + row * K, *w = a.w.data();
    float* y = a.y.data() + row * N;
    int64_t n = n_begin;
    for (; n + 4 <= n_end; n += 4) four_dots(w + n * K, K, x, K, y + n);
    for (; n < n_end; ++n) {
      float sums[4];
      four_dots(w + n * K, 0, x, K, sums);
      y[n] = sums[0];
    }
  }
}

PYLLMC_SIMD void dot_products_bf16(const LinearForward& a, int64_t n_begin, int64_t n_end) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  constexpr int64_t kPart = 1024;  // inputs that are split at once
  alignas(64) float even[kPart / 2], odd[kPart / 2];
  for (int64_t row = 0; row < M; ++row) {
    float* y = a.y.data() + row * N;
    for (int64_t k0 = 0; k0 < K; k0 += kPart) {
      const int64_t n_k = std::min(kPart, K - k0), pairs = n_k / 2;
      const float* x = a.x.data() + row * K + k0;
      for (int64_t i = 0; i < pairs; ++i) {
        even[i] = x[2 * i];
        odd[i] = x[2 * i + 1];
      }
      for (int64_t i = pairs; i % kLanes; ++i) even[i] = odd[i] = 0;
      const uint16_t* w = a.w_bf16.data() + k0;
      for (int64_t n = n_begin; n < n_end; n += 4) {
        const int64_t count = n_end - n < 4 ? 1 : 4;
        float sums[4];
        four_dots_bf16(w + n * K, count == 4 ? K : 0, even, odd, 2 * pairs, sums);
        for (int64_t i = 0; i < count; ++i) {
          if (n_k % 2) sums[i] += float_from_bf16(w[(n + i) * K + n_k - 1]) * x[n_k - 1];
          y[n + i] = k0 == 0 ? sums[i] : y[n + i] + sums[i];
        }
        if (count < 4) n -= 3;
      }
    }
  }
}

// out (M, N) = a (M, K) b (K, N): rows are work items, `b` is packed. `put(sums, ld, row, rows,
// col, cols)` makes them a part of out.
template <class Put>
void multiply_rows(const Context& context, const PanelEngine& engine, ConstTensor a, const Unit* b,
                   int64_t N, Unit* scratch, const Put& put) {
  const int64_t M = a.dim(0), K = a.dim(1), units = engine.units(K);
  const PanelEngine::Tile& tile = engine.wide();
  const int64_t block = row_block(units, M, context.threads), a_block = engine.a_block(block);
  parallel_for(context.threads, ceil_div(M, block), [&](int64_t item, int thread) {
    const int64_t first = item * block, rows = std::min(block, M - first);
    Unit* packed = scratch + thread * Scratch::round(engine.a_units(block, K));
    engine.pack_a(a.data() + first * K, K, rows, K, packed, a_block);
    alignas(64) float sums[kMostRows * kMostCols];
    for (int64_t col = 0; col < N; col += tile.cols) {
      const Unit* panel = b + col / tile.cols * engine.b_panel_units(K, tile);
      const int64_t cols = std::min(tile.cols, N - col);
      engine.multiply(tile, {packed, a_block, rows}, 0, units, {panel, tile.cols, tile.cols}, sums,
                      tile.cols, false, [&](int64_t row, int64_t n) {
                        put(sums + row * tile.cols, tile.cols, first + row, n, col, cols);
                      });
    }
    stream_fence();
  });
}

int64_t multiply_rows_workspace(const Context& context, const PanelEngine& engine, int64_t M,
                                int64_t K, int64_t N) {
  const int64_t block = row_block(engine.units(K), M, context.threads);
  return Scratch::round(engine.b_units(K, N, engine.wide())) +
         context.threads * Scratch::round(engine.a_units(block, K));
}

// What dw needs: x^T packed by chunks of rows, and for each thread a piece of dy and of dw^T. A
// work item owns a block of outputs and, where there are more threads than blocks, a share of
// their inputs.
struct WeightCut {
  int64_t block, blocks, inputs, shares, chunks, x_chunk_units;
  WeightCut(const Context& context, const PanelEngine& engine, int64_t M, int64_t K, int64_t N)
      : block(output_block(N)),
        blocks(ceil_div(N, block)),
        inputs(ceil_div(ceil_div(K, ceil_div(context.threads, blocks)), kLeastInputs) *
               kLeastInputs),
        shares(ceil_div(K, inputs)),
        chunks(ceil_div(M, kChunkRows)),
        x_chunk_units(engine.a_units(K, kChunkRows)) {}
  int64_t dy_units(const PanelEngine& engine) const {
    return engine.b_units(kChunkRows, block, engine.wide());
  }
  int64_t thread_floats(const PanelEngine& engine) const {
    return Scratch::round(dy_units(engine)) + Scratch::round(inputs * block) +
           Scratch::round(inputs * kTurnedRows);
  }
};

int64_t workspace(const Context& context, int64_t M, int64_t K, int64_t N, bool gradients,
                  const BandLayout* band, bool) {
  if (band) return band_workspace(context, M, *band, gradients);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  int64_t floats = M <= kFewRows ? 0 : multiply_rows_workspace(context, engine, M, K, N);
  if (!gradients) return floats;
  const WeightCut cut(context, engine, M, K, N);
  floats = std::max(floats, multiply_rows_workspace(context, engine, M, N, K));
  return std::max(floats, Scratch::round(cut.chunks * cut.x_chunk_units) +
                              context.threads * cut.thread_floats(engine));
}

void forward(const Context& context, const LinearForward& a) {
  if (a.band) return band_forward(context, a);
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  if (M <= kFewRows) {
    const int64_t outputs = std::clamp<int64_t>(N / 64 / 4 * 4, 64, 1024);  // of a work item
    parallel_for(context.threads, ceil_div(N, outputs), [&](int64_t block, int) {
      const int64_t begin = block * outputs, end = std::min(N, begin + outputs);
      a.w_bf16 ? dot_products_bf16(a, begin, end) : dot_products(a, begin, end);
      finish(a, a.y.data() + begin, N, 0, M, begin, end - begin);
      stream_fence();
    });
    return;
  }
  const PanelEngine& engine = PanelEngine::get(context.precision);
  Scratch scratch(context.scratch("linear", workspace(context, M, K, N, false, nullptr, false)));
  const PanelEngine::Tile& tile = engine.wide();
  Unit* b = scratch.take<Unit>(engine.b_units(K, N, tile));
  parallel_for(context.threads, ceil_div(N, tile.cols), [&](int64_t panel, int) {
    const int64_t n = panel * tile.cols;
    engine.pack_b_transposed(a.w.data() + n * K, K, K, std::min(tile.cols, N - n), tile,
                             b + panel * engine.b_panel_units(K, tile));
  });
  multiply_rows(context, engine, a.x, b, N, scratch.take<Unit>(0),
                [&](auto... part) { finish(a, part...); });
}

void backward_input(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  Scratch scratch(context.scratch("linear", multiply_rows_workspace(context, engine, M, N, K)));
  const PanelEngine::Tile& tile = engine.wide();
  Unit* b = scratch.take<Unit>(engine.b_units(N, K, tile));
  parallel_for(context.threads, ceil_div(K, tile.cols), [&](int64_t panel, int) {
    const int64_t k = panel * tile.cols;
    engine.pack_b(a.w.data() + k, K, N, std::min(tile.cols, K - k), tile,
                  b + panel * engine.b_panel_units(N, tile));
  });
  multiply_rows(context, engine, a.dy, b, K, scratch.take<Unit>(0),
                [&](auto... part) { finish(a, part...); });
}

// dw^T (inputs, outputs) = x^T dy, for each work item's inputs and outputs, and the outputs' part
// of db, summed over all of M in order.
void backward_weight(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const WeightCut cut(context, engine, M, K, N);
  Scratch scratch(context.scratch("linear", workspace(context, M, K, N, true, nullptr, false)));
  Unit* x = scratch.take<Unit>(cut.chunks * cut.x_chunk_units);
  float* own = scratch.take<float>(context.threads * cut.thread_floats(engine));
  parallel_for(context.threads, cut.chunks, [&](int64_t chunk, int) {
    const int64_t row = chunk * kChunkRows;
    engine.pack_a_transposed(a.x.data() + row * K, K, K, std::min(kChunkRows, M - row),
                             x + chunk * cut.x_chunk_units, engine.a_block(K));
  });
  const PanelEngine::Tile& tile = engine.wide();
  parallel_for(context.threads, cut.blocks * cut.shares, [&](int64_t item, int thread) {
    const int64_t begin = item / cut.shares * cut.block, outputs = std::min(cut.block, N - begin);
    const int64_t share = item % cut.shares, k_begin = share * cut.inputs;
    const int64_t inputs = std::min(cut.inputs, K - k_begin);
    float* mine = own + thread * cut.thread_floats(engine);
    auto* dy = reinterpret_cast<Unit*>(mine);
    float* sums = mine + Scratch::round(cut.dy_units(engine));
    float* turned = sums + Scratch::round(cut.inputs * cut.block);
    for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      const int64_t row = chunk * kChunkRows, rows = std::min(kChunkRows, M - row);
      engine.pack_b(a.dy.data() + row * N + begin, N, rows, outputs, tile, dy,
                    a.db && share == 0 ? a.db.data() + begin : nullptr);
      const PackedA columns = {x + chunk * cut.x_chunk_units + k_begin * kBlockUnits,
                               engine.a_block(K), inputs};
      for (int64_t col = 0; col < outputs; col += tile.cols) {
        const Unit* panel = dy + col / tile.cols * engine.b_panel_units(rows, tile);
        engine.multiply(tile, columns, 0, engine.units(rows),
                        {panel, tile.cols, std::min(tile.cols, outputs - col)}, sums + col,
                        cut.block, chunk > 0);
      }
    }
    for (int64_t first = 0; first < outputs; first += kTurnedRows) {
      const int64_t n_end = std::min(outputs, first + kTurnedRows);
      transpose(sums + first, cut.block, inputs, n_end - first, turned, inputs);
      for (int64_t n = first; n < n_end; ++n) {
        float* dw = a.dw.data() + (begin + n) * K;
        const float* line = turned + (n - first) * inputs - k_begin;
        a.pattern->each_span(begin + n, [&](Pattern::Span span) {
          const int64_t from = std::max(span.begin, k_begin);
          const int64_t to = std::min(span.end, k_begin + inputs);
          if (from < to) add_row(dw + from, line + from, to - from);
        });
      }
    }
  });
}

void backward(const Context& context, const LinearBackward& a) {
  if (a.band) return band_backward(context, a);
  backward_weight(context, a);
  backward_input(context, a);
}

}  // namespace

const LinearKernels linear_cpu = {forward, backward, workspace};

}  // namespace pyllmc
