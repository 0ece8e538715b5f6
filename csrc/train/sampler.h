// Drawing text from a model: softmax at a temperature, optionally over the k likeliest tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/model.h"

namespace pyllmc {

struct SamplingOptions {
  double temperature = 1;  // 0 = always the likeliest token
  int64_t top_k = 0;       // 0 = the whole vocabulary
  uint64_t seed = 1337;
};

// The token that a coin in [0, 1) picks from softmax(logits / temperature): the first whose
// cumulative probability exceeds it, in the order of ids. Ties in top_k go to the lower id. Throws
// UsageError when there are no logits, or an option below 0. Whoever draws many tokens keeps the
// scratch.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double coin,
                     std::vector<float>* scratch = nullptr);

// Reads the prompt (at least one token), then draws up to `count` tokens, as many as the model has
// positions for; each is handed to `emit`. Token number i uses coin i of the seed's stream. Returns
// how many were drawn. Throws DivergedError when the logits are not finite.
// The context says where and how the model computes; it needs no workspace, and on a GPU a stream.
int64_t generate(Model& model, Context context, std::span<const int32_t> prompt, int64_t count,
                 const SamplingOptions& options, const std::function<void(int32_t)>& emit);

}  // namespace pyllmc
