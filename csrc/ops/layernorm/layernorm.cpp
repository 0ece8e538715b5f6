#include "ops/layernorm/layernorm.h"

namespace pyllmc {

void layernorm_forward(const Context& context, const LayerNormForward& args) {
  const int64_t rows = args.x.dim(0), C = args.x.dim(1);
  require_shape("layernorm", "weight", args.weight, {C});
  require_shape("layernorm", "bias", args.bias, {C});
  require_shape("layernorm", "y", args.y, {rows, C});
  require_shape("layernorm", "mean", args.mean, {rows});
  require_shape("layernorm", "rstd", args.rstd, {rows});
  require_type("layernorm", "y", args.y, context.activations());
  dispatch(context, layernorm_cpu, "layernorm", &LayerNormKernels::forward, args);
}

void layernorm_backward(const Context& context, const LayerNormBackward& args) {
  const int64_t rows = args.x.dim(0), C = args.x.dim(1);
  require_shape("layernorm", "dy", args.dy, {rows, C});
  require_shape("layernorm", "weight", args.weight, {C});
  require_shape("layernorm", "mean", args.mean, {rows});
  require_shape("layernorm", "rstd", args.rstd, {rows});
  require_shape("layernorm", "dx", args.dx, {rows, C});
  require_shape("layernorm", "dweight", args.dweight, {C});
  require_shape("layernorm", "dbias", args.dbias, {C});
  require_type("layernorm", "dy", args.dy, context.activations());
  if (args.dx_copy) {
    require_shape("layernorm", "dx_copy", args.dx_copy, {rows, C});
    require_type("layernorm", "dx_copy", args.dx_copy, context.activations());
  }
  dispatch(context, layernorm_cpu, "layernorm", &LayerNormKernels::backward, args);
}

int64_t layernorm_workspace(const Context& context, int64_t rows, int64_t channels) {
  return select_kernels(context, layernorm_cpu, "layernorm").workspace(context, rows, channels);
}

}  // namespace pyllmc
