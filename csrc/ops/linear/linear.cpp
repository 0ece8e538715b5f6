#include "ops/linear/linear.h"

namespace pyllmc {
namespace {

// A dense weight is (N, K); a stored band is that many floats for one of the two orientations.
void require_weight(const char* name, ConstTensor weight, int64_t N, int64_t K,
                    const BandLayout* band) {
  if (!band) {
    require_shape("linear", name, weight, {N, K});
    return;
  }
  require_shape("linear", name, weight, {band->floats()});
  const bool fits = band->hidden_is_rows() ? N == band->hidden() && K == band->residual()
                                           : K == band->hidden() && N == band->residual();
  if (fits) return;
  throw UsageError(message("linear: a band of ", band->hidden(), " hidden units and ",
                           band->residual(), " channels on a weight of ", N, " x ", K));
}

}  // namespace

void linear_forward(const Context& context, const LinearForward& args) {
  const int64_t M = args.x.dim(0), K = args.x.dim(1), N = args.y.dim(1);
  require_weight("w", args.w, N, K, args.band);
  require_shape("linear", "y", args.y, {M, N});
  if (args.b) require_shape("linear", "b", args.b, {N});
  if (args.residual) require_shape("linear", "residual", args.residual, {M, N});
  if (args.gelu) require_shape("linear", "gelu", args.gelu, {M, N});
  select_kernels(context, linear_cpu, "linear").forward(context, args);
}

void linear_backward(const Context& context, const LinearBackward& args) {
  const int64_t M = args.x.dim(0), K = args.x.dim(1), N = args.dy.dim(1);
  require_shape("linear", "dy", args.dy, {M, N});
  require_weight("w", args.w, N, K, args.band);
  require_shape("linear", "dx", args.dx, {M, K});
  require_weight("dw", args.dw, N, K, args.band);
  if (args.db) require_shape("linear", "db", args.db, {N});
  if (args.activation) require_shape("linear", "activation", args.activation, {M, K});
  if (args.pattern->rows() != N || args.pattern->cols() != K) {
    throw UsageError(message("linear: a pattern of ", args.pattern->rows(), " x ",
                             args.pattern->cols(), " on a weight of ", N, " x ", K));
  }
  select_kernels(context, linear_cpu, "linear").backward(context, args);
}

}  // namespace pyllmc
