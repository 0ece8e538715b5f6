// Token plus position embedding: x[b,t,:] = wte[token[b,t],:] + wpe[t0 + t,:].
//
// B batch, T positions, C channels, V rows of the table that ids may name, maxT positions.
// Backward adds to dwte (V', C) and dwpe (maxT, C); the order over (b, t) is fixed.
// The caller has checked that 0 <= token < V (the data loader refuses others), and on a GPU, where
// t0 is not to be read, require_positions().
#pragma once

#include <span>

#include "core/context.h"

namespace pyllmc {

struct EmbeddingForward {
  Tokens tokens;                            // (B, T)
  ConstTensor wte;                          // (Vp, C)
  ConstTensor wpe;                          // (maxT, C)
  Tensor x;                                 // (B, T, C), fp32
  const int32_t* first_position = nullptr;  // t0, in the device's memory; null = 0
};

struct EmbeddingBackward {
  Tokens tokens;   // (B, T)
  ConstTensor dx;  // (B, T, C), fp32
  Tensor dwte;     // (Vp, C), accumulated
  Tensor dwpe;     // (maxT, C), accumulated
  Tokens order{};  // (B T): the places b T + t by token, equal ones in order; a GPU needs it
};

struct EmbeddingKernels {
  void (*forward)(const Context&, const EmbeddingForward&);
  void (*backward)(const Context&, const EmbeddingBackward&);
};
extern const EmbeddingKernels embedding_cpu;

// Throws UsageError when positions [first, first + T) are not all among `positions`.
void require_positions(int64_t first, int64_t T, int64_t positions);

void embedding_forward(const Context& context, const EmbeddingForward& args);
void embedding_backward(const Context& context, const EmbeddingBackward& args);
// Writes EmbeddingBackward::order for n tokens of [0, vocab), all in the host's memory. `places` is
// scratch of vocab + 1.
void order_by_token(const int32_t* tokens, int64_t n, std::span<int32_t> places, int32_t* order);

}  // namespace pyllmc
