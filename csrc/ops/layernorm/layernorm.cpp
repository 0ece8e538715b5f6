#include "ops/layernorm/layernorm.h"

namespace pyllmc {

void layernorm_forward(const Context& context, const LayerNormForward& args) {
  const int64_t rows = args.x.dim(0), C = args.x.dim(1);
  require_shape("layernorm", "weight", args.weight, {C});
  require_shape("layernorm", "bias", args.bias, {C});
  require_shape("layernorm", "y", args.y, {rows, C});
  require_shape("layernorm", "mean", args.mean, {rows});
  require_shape("layernorm", "rstd", args.rstd, {rows});
  select_kernels(context, layernorm_cpu, "layernorm").forward(context, args);
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
  select_kernels(context, layernorm_cpu, "layernorm").backward(context, args);
}

}  // namespace pyllmc
