// Causal multi-head self-attention (Vaswani et al. 2017): for each head, with hs = C / NH,
// out_t = sum_{s <= t} softmax_s(q_t . k_s / sqrt(hs)) v_s.
//
// qkv (B, T, 3C) holds q, k, v side by side, heads contiguous inside each. Forward keeps the
// log-sum-exp of every row (B, NH, T); backward makes the probabilities again from it, so no T x T
// matrix outlives its head (Dao et al. 2022). A head is one work item: dk and dv need no atomics.
// Everything but the log-sum-exp is of the context's activations() type.
#pragma once

#include "core/context.h"

namespace pyllmc {

struct AttentionForward {
  ConstTensor qkv;     // (B, T, 3C)
  Tensor out;          // (B, T, C)
  Tensor log_sum_exp;  // (B, NH, T)
};

struct AttentionBackward {
  ConstTensor dout, out;    // (B, T, C)
  ConstTensor qkv;          // (B, T, 3C)
  ConstTensor log_sum_exp;  // (B, NH, T)
  Tensor dqkv;              // (B, T, 3C), overwritten
};

// One new position against a cache of those before it, to which its key and value are added.
struct AttentionDecode {
  ConstTensor qkv;          // (1, 3C): of the new position
  Tensor keys, values;      // (capacity, C); rows before *position are read, that row is written
  const int32_t* position;  // of the new position, from 0; in the device's memory
  Tensor out;               // (1, C)
  int64_t heads;
};

struct AttentionKernels {
  void (*forward)(const Context&, const AttentionForward&);
  void (*backward)(const Context&, const AttentionBackward&);
  void (*decode)(const Context&, const AttentionDecode&);
  int64_t (*workspace)(const Context&, int64_t B, int64_t T, int64_t channels, int64_t heads);
};
extern const AttentionKernels attention_cpu;

void attention_forward(const Context& context, const AttentionForward& args);
void attention_backward(const Context& context, const AttentionBackward& args);
void attention_decode(const Context& context, const AttentionDecode& args);
// Floats of workspace that forward and backward need for B sequences of T, and decode for B = 1 and
// a capacity of T.
int64_t attention_workspace(const Context& context, int64_t B, int64_t T, int64_t channels,
                            int64_t heads);

}  // namespace pyllmc
