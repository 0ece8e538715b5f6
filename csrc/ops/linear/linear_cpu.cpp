#include <algorithm>

#include "core/bf16.h"
#include "ops/linear/linear_tiles.h"

namespace pyllmc {
namespace {

constexpr int64_t kTurnedRows = 16;  // rows of dw that are turned from dw^T at once

// Outputs whose rows of dw one work item sums.
int64_t output_block(int64_t N) { return N >= 1024 ? 128 : N >= 512 ? 64 : 32; }

PYLLMC_SIMD void add_row(float* out, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += values[i];
}

// y[row, n] = x[row] . w[n] for a handful of rows: the weight is read once, at memory speed.
PYLLMC_SIMD void dot_products(const LinearForward& a, int64_t n_begin, int64_t n_end) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const int64_t unrolled = K / (4 * kLanes) * (4 * kLanes), whole = K / kLanes * kLanes;
  for (int64_t n = n_begin; n < n_end; ++n) {
    const float* w = a.w.data() + n * K;
    for (int64_t row = 0; row < M; ++row) {
      const float* x = a.x.data() + row * K;
      f32x16 sums[4] = {};
      for (int64_t k = 0; k < unrolled; k += 4 * kLanes) {
        for (int i = 0; i < 4; ++i) {
          sums[i] += load16(w + k + i * kLanes) * load16(x + k + i * kLanes);
        }
      }
      for (int64_t k = unrolled; k < whole; k += kLanes) sums[0] += load16(w + k) * load16(x + k);
      if (const int64_t rest = K - whole) {
        sums[1] += load_part(w + whole, rest, 0) * load_part(x + whole, rest, 0);
      }
      a.y.data()[row * N + n] = sum16((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
  }
}

// The same with a bf16 weight: sixteen words of two, whose halves become fp32 by moving them into
// place, so the even and the odd inputs are summed apart.
PYLLMC_SIMD void dot_products_bf16(const LinearForward& a, int64_t n_begin, int64_t n_end) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  constexpr int64_t kPart = 1024;  // inputs that are split at once
  alignas(64) float even[kPart / 2], odd[kPart / 2];
  for (int64_t row = 0; row < M; ++row) {
    float* y = a.y.data() + row * N;
    for (int64_t k0 = 0; k0 < K; k0 += kPart) {
      const int64_t n_k = std::min(kPart, K - k0), whole = n_k / (2 * kLanes) * (2 * kLanes);
      const float* x = a.x.data() + row * K + k0;
      for (int64_t i = 0; i < n_k / 2; ++i) {
        even[i] = x[2 * i];
        odd[i] = x[2 * i + 1];
      }
      for (int64_t n = n_begin; n < n_end; ++n) {
        const uint16_t* w = a.w_bf16.data() + n * K + k0;
        f32x16 low_sum{}, high_sum{};
        for (int64_t k = 0; k < whole; k += 2 * kLanes) {
          i32x16 words;
          std::memcpy(&words, w + k, sizeof words);
          const i32x16 low_bits = words << 16;
          const i32x16 high_bits = words & static_cast<int32_t>(0xffff0000u);
          f32x16 low, high;
          std::memcpy(&low, &low_bits, sizeof low);
          std::memcpy(&high, &high_bits, sizeof high);
          low_sum += low * load16(even + k / 2);
          high_sum += high * load16(odd + k / 2);
        }
        float sum = sum16(low_sum + high_sum);
        for (int64_t k = whole; k < n_k; ++k) sum += float_from_bf16(w[k]) * x[k];
        y[n] = k0 == 0 ? sum : y[n] + sum;
      }
    }
  }
}

// out (M, N) = a (M, K) b (K, N): rows are work items, `b` is packed. `finish(row, rows, col,
// cols)` sees every tile column when its sums are complete.
template <class Finish>
void multiply_rows(const Context& context, const PanelEngine& engine, ConstTensor a, const Unit* b,
                   Tensor out, Unit* scratch, const Finish& finish) {
  const int64_t M = a.dim(0), K = a.dim(1), N = out.dim(1), units = engine.units(K);
  const int64_t block = row_block(units), width = engine.tile_cols();
  const int64_t a_panel = engine.a_panel_units(K), b_panel = engine.b_panel_units(K);
  parallel_for(context.threads, ceil_div(M, block), [&](int64_t item, int thread) {
    const int64_t row = item * block, rows = std::min(block, M - row);
    Unit* packed = scratch + thread * Scratch::round(engine.a_units(block, K));
    engine.pack_a(a.data() + row * K, K, rows, K, packed);
    for (int64_t col = 0; col < N; col += width) {
      const int64_t cols = std::min(width, N - col);
      const Unit* panel = b + col / width * b_panel;
      for (int64_t unit = 0; unit < units; unit += kDepthUnits) {
        engine.multiply(packed, a_panel, rows, unit, std::min(units, unit + kDepthUnits),
                        panel + unit * width, cols, out.data() + row * N + col, N, unit > 0);
      }
      finish(row, rows, col, cols);
    }
  });
}

int64_t multiply_rows_workspace(const Context& context, const PanelEngine& engine, int64_t K,
                                int64_t N) {
  return Scratch::round(engine.b_units(K, N)) +
         context.threads * Scratch::round(engine.a_units(row_block(engine.units(K)), K));
}

// What dw needs: x^T packed by chunks of rows, and for each thread a piece of dy and of dw^T.
struct WeightCut {
  int64_t block, chunks, x_chunk_units;
  WeightCut(const PanelEngine& engine, int64_t M, int64_t K, int64_t N)
      : block(output_block(N)),
        chunks(ceil_div(M, kChunkRows)),
        x_chunk_units(engine.a_units(K, kChunkRows)) {}
  int64_t dy_units(const PanelEngine& engine) const { return engine.b_units(kChunkRows, block); }
  int64_t thread_floats(const PanelEngine& engine, int64_t K) const {
    return Scratch::round(dy_units(engine)) + Scratch::round(K * block) +
           Scratch::round(K * kTurnedRows);
  }
};

int64_t workspace(const Context& context, int64_t M, int64_t K, int64_t N, bool gradients,
                  const BandLayout* band, bool) {
  if (band) return band_workspace(context, M, *band, gradients);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  int64_t floats = M <= kFewRows ? 0 : multiply_rows_workspace(context, engine, K, N);
  if (!gradients) return floats;
  const WeightCut cut(engine, M, K, N);
  floats = std::max(floats, multiply_rows_workspace(context, engine, N, K));
  return std::max(floats, Scratch::round(cut.chunks * cut.x_chunk_units) +
                              context.threads * cut.thread_floats(engine, K));
}

void forward(const Context& context, const LinearForward& a) {
  if (a.band) return band_forward(context, a);
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  if (M <= kFewRows) {
    constexpr int64_t kOutputs = 64;
    parallel_for(context.threads, ceil_div(N, kOutputs), [&](int64_t block, int) {
      const int64_t begin = block * kOutputs, end = std::min(N, begin + kOutputs);
      a.w_bf16 ? dot_products_bf16(a, begin, end) : dot_products(a, begin, end);
      finish_tile(a, 0, M, begin, end - begin);
    });
    return;
  }
  const PanelEngine& engine = PanelEngine::get(context.precision);
  Scratch scratch(context, workspace(context, M, K, N, false, nullptr, false));
  const int64_t width = engine.tile_cols();
  Unit* b = scratch.take<Unit>(engine.b_units(K, N));
  parallel_for(context.threads, ceil_div(N, width), [&](int64_t panel, int) {
    const int64_t n = panel * width;
    engine.pack_b_transposed(a.w.data() + n * K, K, K, std::min(width, N - n),
                             b + panel * engine.b_panel_units(K));
  });
  multiply_rows(context, engine, a.x, b, a.y, scratch.take<Unit>(0),
                [&](int64_t row, int64_t rows, int64_t col, int64_t cols) {
                  finish_tile(a, row, rows, col, cols);
                });
}

void backward_input(const Context& context, const LinearBackward& a) {
  const int64_t K = a.x.dim(1), N = a.w.dim(0);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  Scratch scratch(context, multiply_rows_workspace(context, engine, N, K));
  const int64_t width = engine.tile_cols();
  Unit* b = scratch.take<Unit>(engine.b_units(N, K));
  parallel_for(context.threads, ceil_div(K, width), [&](int64_t panel, int) {
    const int64_t k = panel * width;
    engine.pack_b(a.w.data() + k, K, N, std::min(width, K - k),
                  b + panel * engine.b_panel_units(N));
  });
  multiply_rows(context, engine, a.dy, b, a.dx, scratch.take<Unit>(0),
                [&](int64_t row, int64_t rows, int64_t col, int64_t cols) {
                  finish_tile(a, row, rows, col, cols);
                });
}

// dw^T (K, outputs) = x^T dy. A work item owns a block of outputs: their rows of dw and their part
// of db, summed over all of M in order.
void backward_weight(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const WeightCut cut(engine, M, K, N);
  Scratch scratch(context, workspace(context, M, K, N, true, nullptr, false));
  Unit* x = scratch.take<Unit>(cut.chunks * cut.x_chunk_units);
  float* own = scratch.take<float>(context.threads * cut.thread_floats(engine, K));
  parallel_for(context.threads, cut.chunks, [&](int64_t chunk, int) {
    const int64_t row = chunk * kChunkRows;
    engine.pack_a_transposed(a.x.data() + row * K, K, K, std::min(kChunkRows, M - row),
                             x + chunk * cut.x_chunk_units);
  });
  const int64_t width = engine.tile_cols();
  parallel_for(context.threads, ceil_div(N, cut.block), [&](int64_t item, int thread) {
    const int64_t begin = item * cut.block, outputs = std::min(cut.block, N - begin);
    float* mine = own + thread * cut.thread_floats(engine, K);
    auto* dy = reinterpret_cast<Unit*>(mine);
    float* sums = mine + Scratch::round(cut.dy_units(engine));
    float* turned = sums + Scratch::round(K * cut.block);
    for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      const int64_t row = chunk * kChunkRows, rows = std::min(kChunkRows, M - row);
      engine.pack_b(a.dy.data() + row * N + begin, N, rows, outputs, dy);
      for (int64_t col = 0; col < outputs; col += width) {
        engine.multiply(x + chunk * cut.x_chunk_units, engine.a_panel_units(rows), K, 0,
                        engine.units(rows), dy + col / width * engine.b_panel_units(rows),
                        std::min(width, outputs - col), sums + col, cut.block, chunk > 0);
      }
    }
    for (int64_t first = 0; first < outputs; first += kTurnedRows) {
      const int64_t n_end = std::min(outputs, first + kTurnedRows);
      transpose(sums + first, cut.block, K, n_end - first, turned, K);
      for (int64_t n = first; n < n_end; ++n) {
        float* dw = a.dw.data() + (begin + n) * K;
        const float* line = turned + (n - first) * K;
        a.pattern->each_span(begin + n, [&](Pattern::Span span) {
          add_row(dw + span.begin, line + span.begin, span.size());
        });
      }
    }
    if (a.db) add_column_sums(a.dy.data(), M, N, begin, begin + outputs, a.db.data());
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
