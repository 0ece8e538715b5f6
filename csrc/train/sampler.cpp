#include "train/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"

namespace pyllmc {

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double coin) {
  if (options.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(ids.size())) {
    const auto likelier = [&](int32_t a, int32_t b) {
      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::nth_element(ids.begin(), ids.begin() + options.top_k - 1, ids.end(), likelier);
    ids.resize(static_cast<size_t>(options.top_k));
    std::sort(ids.begin(), ids.end());
  }
  float top = logits[static_cast<size_t>(ids[0])];
  for (int32_t id : ids) top = std::max(top, logits[static_cast<size_t>(id)]);
  std::vector<double> weights(ids.size());
  double sum = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    weights[i] = std::exp((logits[static_cast<size_t>(ids[i])] - top) / options.temperature);
    sum += weights[i];
  }
  double cumulative = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    cumulative += weights[i];
    if (coin * sum < cumulative) return ids[i];
  }
  return ids.back();
}

int64_t generate(Model& model, int threads, std::span<const int32_t> prompt, int64_t count,
                 const SamplingOptions& options, const std::function<void(int32_t)>& emit) {
  const int64_t length = static_cast<int64_t>(prompt.size());
  if (length < 1 || length > model.max_seq_len()) {
    throw UsageError(message("a prompt of ", length,
                             " tokens is not possible: the model reads 1 to ",
                             model.max_seq_len()));
  }
  // The last token drawn is not read again, so one more fits than there are positions.
  count = std::min(count, model.max_seq_len() - length + 1);
  if (count < 1) return 0;
  Context context;
  context.threads = threads;
  const auto state = model.start_decoding(context, length + count - 1);
  const Philox random(options.seed, "sample");
  std::vector<float> logits(static_cast<size_t>(model.vocab_size()));
  for (int64_t i = 0; i + 1 < length; ++i) {
    model.prefill(context, *state, prompt[static_cast<size_t>(i)]);
  }
  int32_t token = prompt.back();
  for (int64_t i = 0; i < count; ++i) {
    model.decode(context, *state, token, logits.data());
    if (!std::ranges::all_of(logits, [](float x) { return std::isfinite(x); })) {
      throw DivergedError(message("the model's logits at position ", length - 1 + i,
                                  " are not finite: its weights are broken, use another one"));
    }
    const double coin = Philox::uniform(random.block(static_cast<uint64_t>(i))[0]);
    token = sample_token(logits, options, coin);
    emit(token);
  }
  return count;
}

}  // namespace pyllmc
