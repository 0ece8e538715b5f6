#include "core/threads.h"
#include "ops/embedding/embedding.h"

namespace pyllmc {
namespace {

void forward(const Context& context, const EmbeddingForward& a) {
  const int64_t B = a.tokens.dim(0), T = a.tokens.dim(1), C = a.wte.dim(1);
  const int64_t first_position = a.first_position ? *a.first_position : 0;
  parallel_for(context.threads, ceil_div(B * T, 64), [&](int64_t block, int) {
    for (int64_t row = block * 64; row < std::min(B * T, block * 64 + 64); ++row) {
      const float* token = a.wte.data() + a.tokens.data()[row] * C;
      const float* position = a.wpe.data() + (first_position + row % T) * C;
      float* x = a.x.data() + row * C;
      for (int64_t c = 0; c < C; ++c) x[c] = token[c] + position[c];
    }
  });
}

// A work item owns a block of channels and walks all tokens in order: rows of dwte are shared by
// tokens, channels are not.
void backward(const Context& context, const EmbeddingBackward& a) {
  const int64_t B = a.tokens.dim(0), T = a.tokens.dim(1), C = a.dwte.dim(1);
  constexpr int64_t kBlock = 32;
  parallel_for(context.threads, ceil_div(C, kBlock), [&](int64_t block, int) {
    const int64_t c0 = block * kBlock, c1 = std::min(C, c0 + kBlock);
    for (int64_t row = 0; row < B * T; ++row) {
      const float* dx = a.dx.data() + row * C;
      float* dtoken = a.dwte.data() + a.tokens.data()[row] * C;
      float* dposition = a.dwpe.data() + row % T * C;
      for (int64_t c = c0; c < c1; ++c) dtoken[c] += dx[c];
      for (int64_t c = c0; c < c1; ++c) dposition[c] += dx[c];
    }
  });
}

}  // namespace

const EmbeddingKernels embedding_cpu = {forward, backward};

}  // namespace pyllmc
