#include "ops/attention/attention.h"

namespace pyllmc {
namespace {

void require_heads(int64_t channels, int64_t heads) {
  if (heads < 1 || channels % heads != 0) {
    throw UsageError(
        message("attention: ", channels, " channels do not divide into ", heads, " heads"));
  }
}

}  // namespace

void attention_forward(const Context& context, const AttentionForward& args) {
  const int64_t B = args.out.dim(0), T = args.out.dim(1), C = args.out.dim(2);
  const int64_t NH = args.log_sum_exp.dim(1);
  require_heads(C, NH);
  require_shape("attention", "qkv", args.qkv, {B, T, 3 * C});
  require_shape("attention", "log_sum_exp", args.log_sum_exp, {B, NH, T});
  require_type("attention", "qkv", args.qkv, context.activations());
  require_type("attention", "out", args.out, context.activations());
  dispatch(context, attention_cpu, "attention", &AttentionKernels::forward, args);
}

void attention_backward(const Context& context, const AttentionBackward& args) {
  const int64_t B = args.out.dim(0), T = args.out.dim(1), C = args.out.dim(2);
  const int64_t NH = args.log_sum_exp.dim(1);
  require_heads(C, NH);
  require_shape("attention", "dout", args.dout, {B, T, C});
  require_shape("attention", "qkv", args.qkv, {B, T, 3 * C});
  require_shape("attention", "dqkv", args.dqkv, {B, T, 3 * C});
  require_shape("attention", "log_sum_exp", args.log_sum_exp, {B, NH, T});
  for (const ConstTensor& tensor : {args.dout, args.out, args.qkv, ConstTensor(args.dqkv)}) {
    require_type("attention", "an activation", tensor, context.activations());
  }
  dispatch(context, attention_cpu, "attention", &AttentionKernels::backward, args);
}

void attention_decode(const Context& context, const AttentionDecode& args) {
  const int64_t capacity = args.keys.dim(0), C = args.out.dim(1);
  require_heads(C, args.heads);
  require_shape("attention", "qkv", args.qkv, {1, 3 * C});
  require_shape("attention", "keys", args.keys, {capacity, C});
  require_shape("attention", "values", args.values, {capacity, C});
  for (const ConstTensor& tensor :
       {args.qkv, ConstTensor(args.keys), ConstTensor(args.values), ConstTensor(args.out)}) {
    require_type("attention", "an activation", tensor, context.activations());
  }
  dispatch(context, attention_cpu, "attention", &AttentionKernels::decode, args);
}

int64_t attention_workspace(const Context& context, int64_t B, int64_t T, int64_t channels,
                            int64_t heads) {
  require_heads(channels, heads);
  return select_kernels(context, attention_cpu, "attention")
      .workspace(context, B, T, channels, heads);
}

}  // namespace pyllmc
