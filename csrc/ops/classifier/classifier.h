// The tied head and its loss in one op: logits = x wte^T over the V real rows of the vocabulary,
// loss = sum over targets >= 0 of logsumexp(logits) - logits[target], and, with gradients asked
// for, dx and dwte of scale * loss. Negative targets are ignored.
//
// The logits of all tokens never exist together: a chunk of tokens meets the whole vocabulary tile
// by tile in some tens of MB. On the CPU the workspace also holds wte as operands of the products,
// in the context's precision (V C floats in fp32, half of that in bf16), and, with gradients asked
// for, wte once more for dx and a dwte in fp32: 3 V C floats in fp32, 2 V C in bf16. A tile's
// exponentials are stored relative to the tile's own maximum; once a row's log-sum-exp is known,
// one factor per row and tile turns them into probabilities. Sums: over a row's tiles, over chunks
// and over groups of tiles in order.
#pragma once

#include "core/context.h"
#include "core/loss.h"

namespace pyllmc {

struct ClassifierArgs {
  ConstTensor x;                        // (M, C), of the activations() type
  ConstTensor wte;                      // (Vp, C)
  Tokens targets;                       // (M), negative = ignored
  int64_t vocab;                        // V <= Vp: padded rows get no probability and no gradient
  Loss* loss;                           // accumulated; in the device's memory
  const float* scale = nullptr;         // of the gradients; in the device's memory
  Tensor dx{};                          // (M, C), of x's type, overwritten; null for the loss alone
  Tensor dwte{};                        // (Vp, C), accumulated; null for the loss alone
  TensorOf<const uint16_t> wte_bf16{};  // (Vp, C): a GPU's operand in bf16
};

struct ClassifierKernels {
  void (*run)(const Context&, const ClassifierArgs&);
  int64_t (*workspace)(const Context&, int64_t tokens, int64_t channels, int64_t vocab,
                       bool gradients);
};
extern const ClassifierKernels classifier_cpu;

void classifier(const Context& context, const ClassifierArgs& args);
// Floats of workspace for M tokens; gradients need more than the loss alone.
int64_t classifier_workspace(const Context& context, int64_t tokens, int64_t channels,
                             int64_t vocab, bool gradients);

}  // namespace pyllmc
