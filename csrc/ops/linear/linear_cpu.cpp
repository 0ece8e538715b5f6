#include <algorithm>

#include "core/gemm.h"
#include "core/simd.h"
#include "core/threads.h"
#include "ops/linear/linear.h"

namespace pyllmc {
namespace {

// Tiles, chosen by the shape of the problem alone.
constexpr int64_t kTileRows = 256;   // rows of x and dy
constexpr int64_t kTileWidth = 512;  // outputs of a forward tile, inputs of a dx tile
constexpr int64_t kFewRows = 4;  // up to this many rows are dot products, not a product of tiles

struct Tile {
  int64_t row, rows, col, cols;
};

// Tile number `index` of a (rows, cols) matrix.
Tile tile_at(int64_t index, int64_t rows, int64_t cols, int64_t height, int64_t width) {
  const int64_t across = ceil_div(cols, width);
  const int64_t row = index / across * height, col = index % across * width;
  return {row, std::min(height, rows - row), col, std::min(width, cols - col)};
}
int64_t tile_count(int64_t rows, int64_t cols, int64_t height, int64_t width) {
  return ceil_div(rows, height) * ceil_div(cols, width);
}

// Bias, residual and GELU on a tile that has just been computed.
PYLLMC_SIMD void finish_tile(const LinearForward& a, const Tile& t) {
  const int64_t N = a.y.dim(1);
  for (int64_t row = t.row; row < t.row + t.rows; ++row) {
    float* y = a.y.data() + row * N + t.col;
    if (a.b) {
      const float* b = a.b.data() + t.col;
      for (int64_t c = 0; c < t.cols; ++c) y[c] += b[c];
    }
    if (a.residual) {
      const float* residual = a.residual.data() + row * N + t.col;
      for (int64_t c = 0; c < t.cols; ++c) y[c] += residual[c];
    }
    if (a.gelu) {
      float* out = a.gelu.data() + row * N + t.col;
      const int64_t whole = t.cols / kLanes * kLanes;
      for (int64_t c = 0; c < whole; c += kLanes) store16(out + c, gelu16(load16(y + c)));
      if (const int64_t n = t.cols - whole) {
        store_part(out + whole, gelu16(load_part(y + whole, n, 0)), n);
      }
    }
  }
}

PYLLMC_SIMD void multiply_by_gelu_derivative(float* dx, const float* activation, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    store16(dx + c, load16(dx + c) * gelu_derivative16(load16(activation + c)));
  }
  if (const int64_t rest = n - whole) {
    const f32x16 slope = gelu_derivative16(load_part(activation + whole, rest, 0));
    store_part(dx + whole, load_part(dx + whole, rest, 0) * slope, rest);
  }
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

PYLLMC_SIMD void add_column_sums(const float* dy, int64_t M, int64_t N, int64_t begin, int64_t end,
                                 float* db) {
  for (int64_t row = 0; row < M; ++row) {
    const float* line = dy + row * N;
    for (int64_t n = begin; n < end; ++n) db[n] += line[n];
  }
}

void forward(const Context& context, const LinearForward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  if (M <= kFewRows) {
    constexpr int64_t kOutputs = 64;
    parallel_for(context.threads, ceil_div(N, kOutputs), [&](int64_t block, int) {
      const int64_t begin = block * kOutputs, end = std::min(N, begin + kOutputs);
      dot_products(a, begin, end);
      finish_tile(a, {0, M, begin, end - begin});
    });
    return;
  }
  const int64_t tiles = tile_count(M, N, kTileRows, kTileWidth);
  parallel_for(context.threads, tiles, [&](int64_t index, int) {
    const Tile t = tile_at(index, M, N, kTileRows, kTileWidth);
    gemm(Trans::no, Trans::yes, t.rows, t.cols, K, a.x.data() + t.row * K, K,
         a.w.data() + t.col * K, K, 0.0f, a.y.data() + t.row * N + t.col, N);
    finish_tile(a, t);
  });
}

void backward_input(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const int64_t tiles = tile_count(M, K, kTileRows, kTileWidth);
  parallel_for(context.threads, tiles, [&](int64_t index, int) {
    const Tile t = tile_at(index, M, K, kTileRows, kTileWidth);
    gemm(Trans::no, Trans::no, t.rows, t.cols, N, a.dy.data() + t.row * N, N, a.w.data() + t.col, K,
         0.0f, a.dx.data() + t.row * K + t.col, K);
    if (!a.activation) return;
    for (int64_t row = t.row; row < t.row + t.rows; ++row) {
      const int64_t at = row * K + t.col;
      multiply_by_gelu_derivative(a.dx.data() + at, a.activation.data() + at, t.cols);
    }
  });
}

// A work item owns a block of outputs: its rows of dw and its part of db, summed over all of M.
void backward_weight(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.w.dim(0);
  const int64_t block = N >= 512 ? 64 : 32;
  parallel_for(context.threads, ceil_div(N, block), [&](int64_t index, int) {
    const int64_t begin = index * block, end = std::min(N, begin + block);
    gemm(Trans::yes, Trans::no, end - begin, K, M, a.dy.data() + begin, N, a.x.data(), K, 1.0f,
         a.dw.data() + begin * K, K);
    if (!a.pattern->is_dense()) {
      for (int64_t n = begin; n < end; ++n) {
        const Pattern::Span span = a.pattern->row_span(n);
        float* row = a.dw.data() + n * K;
        std::fill(row, row + span.begin, 0.0f);
        std::fill(row + span.end, row + K, 0.0f);
      }
    }
    if (a.db) add_column_sums(a.dy.data(), M, N, begin, end, a.db.data());
  });
}

void backward(const Context& context, const LinearBackward& a) {
  backward_weight(context, a);
  backward_input(context, a);
}

}  // namespace

const LinearKernels linear_cpu = {forward, backward};

}  // namespace pyllmc
