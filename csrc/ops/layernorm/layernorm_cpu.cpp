#include <algorithm>
#include <cmath>

#include "core/simd.h"
#include "core/threads.h"
#include "ops/layernorm/layernorm.h"

namespace pyllmc {
namespace {

constexpr int64_t kRowBlock = 64;

PYLLMC_SIMD void forward_rows(const LayerNormForward& a, int64_t begin, int64_t end) {
  const int64_t C = a.x.dim(1), whole = C / kLanes * kLanes;
  const float *weight = a.weight.data(), *bias = a.bias.data();
  for (int64_t row = begin; row < end; ++row) {
    const float* x = a.x.data() + row * C;
    float* y = a.y.data() + row * C;
    f32x16 sums{};
    for (int64_t c = 0; c < whole; c += kLanes) sums += load16(x + c);
    if (whole < C) sums += load_part(x + whole, C - whole, 0);
    const float mean = sum16(sums) / static_cast<float>(C);
    f32x16 squares{};
    for (int64_t c = 0; c < whole; c += kLanes) {
      const f32x16 d = load16(x + c) - mean;
      squares += d * d;
    }
    if (whole < C) {
      const f32x16 d = load_part(x + whole, C - whole, mean) - mean;
      squares += d * d;
    }
    const float variance = sum16(squares) / static_cast<float>(C);
    const float rstd = 1.0f / std::sqrt(variance + kLayerNormEpsilon);
    for (int64_t c = 0; c < C; ++c) y[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
    a.mean.data()[row] = mean;
    a.rstd.data()[row] = rstd;
  }
}

// dx += rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight, xhat = (x - mean) rstd.
// `sums` (2, C) receives this block's part of dweight and dbias.
PYLLMC_SIMD void backward_rows(const LayerNormBackward& a, int64_t begin, int64_t end,
                               float* sums) {
  const int64_t C = a.x.dim(1), whole = C / kLanes * kLanes;
  const float* weight = a.weight.data();
  float *dweight = sums, *dbias = sums + C;
  std::fill(sums, sums + 2 * C, 0.0f);
  for (int64_t row = begin; row < end; ++row) {
    const float *x = a.x.data() + row * C, *dy = a.dy.data() + row * C;
    float* dx = a.dx.data() + row * C;
    const float mean = a.mean.data()[row], rstd = a.rstd.data()[row];
    f32x16 g_sum{}, gx_sum{};
    for (int64_t c = 0; c < whole; c += kLanes) {
      const f32x16 g = load16(dy + c) * load16(weight + c);
      g_sum += g;
      gx_sum += g * (load16(x + c) - mean);
    }
    if (whole < C) {
      const int64_t n = C - whole;
      const f32x16 g = load_part(dy + whole, n, 0) * load_part(weight + whole, n, 0);
      g_sum += g;
      gx_sum += g * (load_part(x + whole, n, mean) - mean);
    }
    const float g_mean = sum16(g_sum) / static_cast<float>(C);
    const float gx_mean = sum16(gx_sum) * rstd / static_cast<float>(C);
    for (int64_t c = 0; c < C; ++c) {
      const float normalized = (x[c] - mean) * rstd;
      dx[c] += rstd * (dy[c] * weight[c] - g_mean - normalized * gx_mean);
      dweight[c] += dy[c] * normalized;
      dbias[c] += dy[c];
    }
  }
}

void forward(const Context& context, const LayerNormForward& a) {
  const int64_t rows = a.x.dim(0);
  parallel_for(context.threads, ceil_div(rows, kRowBlock), [&](int64_t block, int) {
    forward_rows(a, block * kRowBlock, std::min(rows, (block + 1) * kRowBlock));
  });
}

int64_t workspace(const Context&, int64_t rows, int64_t channels) {
  return ceil_div(rows, kRowBlock) * 2 * channels;
}

void backward(const Context& context, const LayerNormBackward& a) {
  const int64_t rows = a.x.dim(0), C = a.x.dim(1), blocks = ceil_div(rows, kRowBlock);
  float* partial = context.scratch("layernorm", workspace(context, rows, C));
  parallel_for(context.threads, blocks, [&](int64_t block, int) {
    backward_rows(a, block * kRowBlock, std::min(rows, (block + 1) * kRowBlock),
                  partial + block * 2 * C);
  });
  for (int64_t block = 0; block < blocks; ++block) {
    const float* sums = partial + block * 2 * C;
    for (int64_t c = 0; c < C; ++c) a.dweight.data()[c] += sums[c];
    for (int64_t c = 0; c < C; ++c) a.dbias.data()[c] += sums[C + c];
  }
}

}  // namespace

const LayerNormKernels layernorm_cpu = {forward, backward, workspace};

}  // namespace pyllmc
