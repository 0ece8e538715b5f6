// Token plus position embedding: x[b,t,:] = wte[token[b,t],:] + wpe[t0 + t,:].
//
// B batch, T positions, C channels, V rows of the table that ids may name, maxT positions.
// Backward adds to dwte (V', C) and dwpe (maxT, C); the order over (b, t) is fixed.
// The caller has checked that 0 <= token < V (the data loader refuses others).
#pragma once

#include "core/context.h"

namespace pyllmc {

struct EmbeddingForward {
  Tokens tokens;    // (B, T)
  ConstTensor wte;  // (Vp, C)
  ConstTensor wpe;  // (maxT, C)
  Tensor x;         // (B, T, C)
  int64_t first_position = 0;
};

struct EmbeddingBackward {
  Tokens tokens;   // (B, T)
  ConstTensor dx;  // (B, T, C)
  Tensor dwte;     // (Vp, C), accumulated
  Tensor dwpe;     // (maxT, C), accumulated
};

struct EmbeddingKernels {
  void (*forward)(const Context&, const EmbeddingForward&);
  void (*backward)(const Context&, const EmbeddingBackward&);
};
extern const EmbeddingKernels embedding_cpu;

void embedding_forward(const Context& context, const EmbeddingForward& args);
void embedding_backward(const Context& context, const EmbeddingBackward& args);

}  // namespace pyllmc
