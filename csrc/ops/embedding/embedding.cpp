#include "ops/embedding/embedding.h"

namespace pyllmc {

void embedding_forward(const Context& context, const EmbeddingForward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.wte.dim(1);
  require_shape("embedding", "wpe", args.wpe, {args.wpe.dim(0), C});
  require_shape("embedding", "x", args.x, {B, T, C});
  if (args.first_position + T > args.wpe.dim(0)) {
    throw UsageError(message("embedding: position ", args.first_position + T - 1,
                             " is past the last of ", args.wpe.dim(0)));
  }
  select_kernels(context, embedding_cpu, "embedding").forward(context, args);
}

void embedding_backward(const Context& context, const EmbeddingBackward& args) {
  const int64_t B = args.tokens.dim(0), T = args.tokens.dim(1), C = args.dwte.dim(1);
  require_shape("embedding", "dx", args.dx, {B, T, C});
  require_shape("embedding", "dwpe", args.dwpe, {args.dwpe.dim(0), C});
  select_kernels(context, embedding_cpu, "embedding").backward(context, args);
}

}  // namespace pyllmc
