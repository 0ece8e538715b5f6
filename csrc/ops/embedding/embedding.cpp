#include "ops/embedding/embedding.h"

#include <numeric>
#include <vector>

namespace pyllmc {

void embedding_forward(const Context& context, const EmbeddingForward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.wte.dim(1);
  require_shape("embedding", "wpe", args.wpe, {args.wpe.dim(0), C});
  require_shape("embedding", "x", args.x, {B, T, C});
  // On a GPU the caller knows the first position, its number is not to be read here.
  const bool known = args.first_position && context.device == Device::cpu;
  const int64_t last = (known ? *args.first_position : 0) + T - 1;
  if (last >= args.wpe.dim(0)) {
    throw UsageError(
        message("embedding: position ", last, " is past the last of ", args.wpe.dim(0)));
  }
  dispatch(context, embedding_cpu, "embedding", &EmbeddingKernels::forward, args);
}

void embedding_backward(const Context& context, const EmbeddingBackward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.dwte.dim(1);
  require_shape("embedding", "dx", args.dx, {B, T, C});
  require_shape("embedding", "dwpe", args.dwpe, {args.dwpe.dim(0), C});
  if (context.device != Device::cpu) require_shape("embedding", "order", args.order, {B * T});
  dispatch(context, embedding_cpu, "embedding", &EmbeddingKernels::backward, args);
}

void order_by_token(const int32_t* tokens, int64_t n, int64_t vocab, int32_t* order) {
  std::vector<int32_t> next(static_cast<size_t>(vocab) + 1);  // where the next of a token goes
  for (int64_t i = 0; i < n; ++i) ++next[static_cast<size_t>(tokens[i]) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (int64_t i = 0; i < n; ++i) {
    order[next[static_cast<size_t>(tokens[i])]++] = static_cast<int32_t>(i);
  }
}

}  // namespace pyllmc
