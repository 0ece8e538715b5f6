#include "ops/linear/linear.h"

namespace pyllmc {

void linear_forward(const Context& context, const LinearForward& args) {
  const int64_t M = args.x.dim(0), K = args.x.dim(1), N = args.w.dim(0);
  require_shape("linear", "w", args.w, {N, K});
  require_shape("linear", "y", args.y, {M, N});
  if (args.b) require_shape("linear", "b", args.b, {N});
  if (args.residual) require_shape("linear", "residual", args.residual, {M, N});
  if (args.gelu) require_shape("linear", "gelu", args.gelu, {M, N});
  select_kernels(context, linear_cpu, "linear").forward(context, args);
}

void linear_backward(const Context& context, const LinearBackward& args) {
  const int64_t M = args.x.dim(0), K = args.x.dim(1), N = args.w.dim(0);
  require_shape("linear", "dy", args.dy, {M, N});
  require_shape("linear", "w", args.w, {N, K});
  require_shape("linear", "dx", args.dx, {M, K});
  require_shape("linear", "dw", args.dw, {N, K});
  if (args.db) require_shape("linear", "db", args.db, {N});
  if (args.activation) require_shape("linear", "activation", args.activation, {M, K});
  if (args.pattern->rows() != N || args.pattern->cols() != K) {
    throw UsageError(message("linear: a pattern of ", args.pattern->rows(), " x ",
                             args.pattern->cols(), " on a weight of ", N, " x ", K));
  }
  select_kernels(context, linear_cpu, "linear").backward(context, args);
}

}  // namespace pyllmc
