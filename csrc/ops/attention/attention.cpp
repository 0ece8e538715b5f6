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
  select_kernels(context, attention_cpu, "attention").forward(context, args);
}

void attention_backward(const Context& context, const AttentionBackward& args) {
  const int64_t B = args.out.dim(0), T = args.out.dim(1), C = args.out.dim(2);
  const int64_t NH = args.log_sum_exp.dim(1);
  require_heads(C, NH);
  require_shape("attention", "dout", args.dout, {B, T, C});
  require_shape("attention", "qkv", args.qkv, {B, T, 3 * C});
  require_shape("attention", "dqkv", args.dqkv, {B, T, 3 * C});
  require_shape("attention", "log_sum_exp", args.log_sum_exp, {B, NH, T});
  select_kernels(context, attention_cpu, "attention").backward(context, args);
}

void attention_decode(const Context& context, const AttentionDecode& args) {
  const int64_t positions = args.keys.dim(0), C = args.out.dim(1);
  require_heads(C, args.heads);
  require_shape("attention", "qkv", args.qkv, {1, 3 * C});
  require_shape("attention", "keys", args.keys, {positions, C});
  require_shape("attention", "values", args.values, {positions, C});
  select_kernels(context, attention_cpu, "attention").decode(context, args);
}

}  // namespace pyllmc
