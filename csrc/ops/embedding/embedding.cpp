#include "ops/embedding/embedding.h"

#include <algorithm>
#include <numeric>

namespace pyllmc {

void require_positions(int64_t first, int64_t T, int64_t positions) {
  if (first >= 0 && first + T <= positions) return;
  throw UsageError(message("embedding: positions ", first, " to ", first + T - 1,
                           " are not all among 0 to ", positions - 1));
}

void embedding_forward(const Context& context, const EmbeddingForward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.wte.dim(1);
  require_shape("embedding", "wpe", args.wpe, {args.wpe.dim(0), C});
  require_shape("embedding", "x", args.x, {B, T, C});
  const bool known = args.first_position && context.device == Device::cpu;
  require_positions(known ? *args.first_position : 0, T, args.wpe.dim(0));
  dispatch(context, embedding_cpu, "embedding", &EmbeddingKernels::forward, args);
}

void embedding_backward(const Context& context, const EmbeddingBackward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.dwte.dim(1);
  require_shape("embedding", "dx", args.dx, {B, T, C});
  require_shape("embedding", "dwpe", args.dwpe, {args.dwpe.dim(0), C});
  require_positions(0, T, args.dwpe.dim(0));
  if (context.device != Device::cpu) require_shape("embedding", "order", args.order, {B * T});
  dispatch(context, embedding_cpu, "embedding", &EmbeddingKernels::backward, args);
}

void order_by_token(const int32_t* tokens, int64_t n, std::span<int32_t> places, int32_t* order) {
  std::ranges::fill(places, 0);
  for (int64_t i = 0; i < n; ++i) ++places[static_cast<size_t>(tokens[i]) + 1];
  std::partial_sum(places.begin(), places.end(), places.begin());
  for (int64_t i = 0; i < n; ++i) {  // places: where the next of a token goes
    order[places[static_cast<size_t>(tokens[i])]++] = static_cast<int32_t>(i);
  }
}

}  // namespace pyllmc
