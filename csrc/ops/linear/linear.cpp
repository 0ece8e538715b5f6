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

void require_library(const Context& context, const BandLayout* band, bool by_library) {
  if (!by_library || (band && context.device != Device::cpu)) return;
  throw UsageError("linear: products by the library are of a GPU and of a stored band only");
}

}  // namespace

void linear_forward(const Context& context, const LinearForward& args) {
  const int64_t M = args.x.dim(0), K = args.x.dim(1), N = args.y.dim(1);
  require_weight("w", args.w, N, K, args.band);
  require_shape("linear", "y", args.y, {M, N});
  if (args.b) require_shape("linear", "b", args.b, {N});
  if (args.residual) require_shape("linear", "residual", args.residual, {M, N});
  if (args.gelu) require_shape("linear", "gelu", args.gelu, {M, N});
  require_library(context, args.band, args.by_library);
  const DType activations = context.activations();
  require_type("linear", "x", args.x, activations);
  if (args.gelu) require_type("linear", "gelu", args.gelu, activations);
  if (args.residual || args.y.type() != activations) {
    require_type("linear", "y", args.y, DType::fp32);
  }
  dispatch(context, linear_cpu, "linear", &LinearKernels::forward, args);
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
  require_library(context, args.band, args.by_library);
  for (const ConstTensor& tensor : {args.dy, args.x, ConstTensor(args.dx)}) {
    require_type("linear", "an activation", tensor, context.activations());
  }
  if (args.activation) {
    require_type("linear", "activation", args.activation, context.activations());
  }
  dispatch(context, linear_cpu, "linear", &LinearKernels::backward, args);
}

int64_t linear_workspace(const Context& context, int64_t M, int64_t K, int64_t N, bool gradients,
                         const BandLayout* band, bool by_library) {
  return select_kernels(context, linear_cpu, "linear")
      .workspace(context, M, K, N, gradients, band, by_library);
}

}  // namespace pyllmc
