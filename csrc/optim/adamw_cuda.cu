#include "cuda/guard.h"
#include "cuda/kernel_tools.cuh"
#include "optim/adamw.h"

namespace pyllmc {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kEach = 4;

// One block a piece: the sum of its gradients' squares.
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const AdamWPiece* __restrict__ pieces, const float* __restrict__ gradients,
                   double* __restrict__ squares) {
  const AdamWPiece piece = pieces[blockIdx.x];
  const float* g = gradients + piece.offset;
  double sum = 0;
#pragma unroll 4
  for (int j = threadIdx.x * kEach; j < piece.count; j += kThreads * kEach) {
    if (j + kEach <= piece.count) {
      float x[kEach];
      load(g + j, x);
#pragma unroll
      for (int i = 0; i < kEach; ++i) sum += static_cast<double>(x[i]) * x[i];
    } else {
      for (int i = j; i < piece.count; ++i) sum += static_cast<double>(g[i]) * g[i];
    }
  }
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

constexpr int kNormThreads = 1024;

__global__ void __launch_bounds__(kNormThreads)
    norm_kernel(const double* __restrict__ squares, int pieces, double clip, StepState* state) {
  double sum = 0;
  for (int i = threadIdx.x; i < pieces; i += kNormThreads) sum += squares[i];
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  state->gradient_norm = norm;
  state->gradient_scale = clip > 0 && norm > clip ? static_cast<float>(clip / norm) : 1.0f;
  if (!isfinite(norm) || !isfinite(state->loss.sum)) state->not_finite = 1;
}

struct Rates {
  float beta1, beta2, rest1, rest2;  // rest = 1 - beta, taken in double
  float epsilon, decay;
};

// What changes from step to step.
struct Step {
  float rate, correction1, correction2, scale;
};

__device__ __forceinline__ void update_entry(float& p, float g, float& m, float& v, bool kept,
                                             const Rates& r, const Step& s, float decay) {
  const float gradient = g * s.scale;
  const float m1 = r.beta1 * m + r.rest1 * gradient;
  const float v1 = r.beta2 * v + r.rest2 * gradient * gradient;
  const float step = (m1 / s.correction1) / (sqrtf(v1 / s.correction2) + r.epsilon);
  const float p1 = p - s.rate * (step + decay * p);
  m = kept ? m1 : 0.0f;
  v = kept ? v1 : 0.0f;
  p = kept ? p1 : 0.0f;
}

__global__ void __launch_bounds__(kThreads)
    update_kernel(const AdamWPiece* __restrict__ pieces, float* __restrict__ values,
                  const float* __restrict__ gradients, float* __restrict__ first_moments,
                  float* __restrict__ second_moments, bf16* __restrict__ copies, Rates rates,
                  const StepState* __restrict__ state) {
  if (state->not_finite) return;
  const Step step = {state->learning_rate, state->bias_correction1, state->bias_correction2,
                     state->gradient_scale};
  const AdamWPiece piece = pieces[blockIdx.x];
  const float decay = piece.decays ? rates.decay : 0.0f;
#pragma unroll 2
  for (int j = threadIdx.x * kEach; j < piece.count; j += kThreads * kEach) {
    const int64_t at = piece.offset + j;
    const uint32_t kept = piece.kept ? piece.kept[j / 32] >> (j % 32) : 0xfu;
    if (j + kEach <= piece.count) {
      float p[kEach], g[kEach], m[kEach], v[kEach];
      load(values + at, p);
      load(gradients + at, g);
      load(first_moments + at, m);
      load(second_moments + at, v);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        update_entry(p[i], g[i], m[i], v[i], kept >> i & 1, rates, step, decay);
      }
      store(values + at, p);
      store(first_moments + at, m);
      store(second_moments + at, v);
      if (copies) store(copies + at, p);
    } else {
      for (int i = 0; i < piece.count - j; ++i) {
        float p = values[at + i], m = first_moments[at + i], v = second_moments[at + i];
        update_entry(p, gradients[at + i], m, v, kept >> i & 1, rates, step, decay);
        values[at + i] = p;
        first_moments[at + i] = m;
        second_moments[at + i] = v;
        if (copies) copies[at + i] = from_float<bf16>(p);
      }
    }
  }
}

void measure(const Context& context, const AdamWArgs& a) {
  const int64_t pieces = a.pieces.numel();
  constexpr size_t kSharedBytes = kWarp * sizeof(double);
  if (pieces > 0) {
    launch("AdamW, squares", squares_kernel, static_cast<unsigned>(pieces), kThreads, kSharedBytes,
           context.stream, a.pieces.data(), a.gradients, a.squares);
  }
  launch("AdamW, norm", norm_kernel, 1, kNormThreads, kSharedBytes, context.stream, a.squares,
         pieces, a.options.clip, a.state);
}

void update(const Context& context, const AdamWArgs& a) {
  const int64_t pieces = a.pieces.numel();
  if (pieces == 0) return;
  const AdamWOptions& o = a.options;
  const Rates rates = {static_cast<float>(o.beta1),     static_cast<float>(o.beta2),
                       static_cast<float>(1 - o.beta1), static_cast<float>(1 - o.beta2),
                       static_cast<float>(o.epsilon),   static_cast<float>(o.weight_decay)};
  launch("AdamW", update_kernel, static_cast<unsigned>(pieces), kThreads, 0, context.stream,
         a.pieces.data(), a.values, a.gradients, a.m, a.v, reinterpret_cast<bf16*>(a.bf16), rates,
         a.state);
}

}  // namespace

extern const AdamWKernels adamw_cuda = {guarded<measure>, guarded<update>};

}  // namespace pyllmc
