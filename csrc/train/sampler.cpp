#include "train/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "core/simd.h"

namespace pyllmc {
namespace {

// sums[i] of sixteen weights each, four at once; both passes over the weights add up the same.
PYLLMC_INLINE void sums_of_four(const float* weights, float sums[4]) {
  f32x16 v[4];
  for (int i = 0; i < 4; ++i) v[i] = load16(weights + i * kLanes);
  sum16_of_four(v, sums);
}

// out = exp((values - their maximum) / temperature); returns their sum. They may be one array.
PYLLMC_SIMD double exponentials(const float* values, int64_t n, double temperature, float* out) {
  constexpr int64_t kStep = 4 * kLanes;
  const auto scale = static_cast<float>(1 / temperature);
  const int64_t whole = n / kStep * kStep;
  f32x16 high[4];
  for (f32x16& lanes : high) lanes = broadcast(values[0]);
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int j = 0; j < 4; ++j) high[j] = max16(high[j], load16(values + i + j * kLanes));
  }
  float top = max16(max16(max16(high[0], high[1]), max16(high[2], high[3])));
  for (int64_t i = whole; i < n; ++i) top = std::max(top, values[i]);
  double sum = 0;
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int j = 0; j < 4; ++j) {
      const int64_t at = i + j * kLanes;
      store16(out + at, exp16((load16(values + at) - top) * scale));
    }
    float sums[4];
    sums_of_four(out + i, sums);
    for (const float part : sums) sum += part;
  }
  for (int64_t i = whole; i < n; i += kLanes) {
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    const f32x16 e = exp16((load_part(values + i, count, -__builtin_inff()) - top) * scale);
    store_part(out + i, e, count);
    for (int64_t j = i; j < i + count; ++j) sum += out[j];
  }
  return sum;
}

// x - x is 0 for every finite x, and not for others.
PYLLMC_SIMD bool all_finite(const float* values, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  f32x16 differences{};
  for (int64_t i = 0; i < whole; i += kLanes) {
    differences += load16(values + i) - load16(values + i);
  }
  float sum = sum16(differences);
  for (int64_t i = whole; i < n; ++i) sum += values[i] - values[i];
  return sum == 0;
}

// The first position whose cumulative sum exceeds `target`; blocks of 64 are passed at once.
PYLLMC_SIMD int64_t reached(const float* weights, int64_t n, double target) {
  double cumulative = 0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    float sums[4];
    sums_of_four(weights + i, sums);
    double next = cumulative;
    for (const float part : sums) next += part;
    if (next > target) break;
    cumulative = next;
  }
  for (; i < n; ++i) {
    cumulative += weights[i];
    if (cumulative > target) break;
  }
  return i;
}

}  // namespace

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double coin,
                     std::vector<float>* scratch) {
  if (logits.empty()) throw UsageError("a token cannot be drawn from no logits: give one or more");
  if (!(options.temperature >= 0) || options.top_k < 0) {
    throw UsageError(message("temperature ", options.temperature, " and top_k ", options.top_k,
                             " are not possible: both must be 0 or more"));
  }
  if (options.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<int32_t> ids;  // empty: every token
  std::vector<float> own;
  std::vector<float>& weights = scratch ? *scratch : own;
  weights.resize(logits.size());
  const float* from = logits.data();
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(logits.size())) {
    ids.resize(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto likelier = [&](int32_t a, int32_t b) {
      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::nth_element(ids.begin(), ids.begin() + options.top_k - 1, ids.end(), likelier);
    ids.resize(static_cast<size_t>(options.top_k));
    std::sort(ids.begin(), ids.end());
    weights.resize(ids.size());
    for (size_t k = 0; k < ids.size(); ++k) weights[k] = logits[static_cast<size_t>(ids[k])];
    from = weights.data();
  }
  const auto n = static_cast<int64_t>(weights.size());
  const double target = coin * exponentials(from, n, options.temperature, weights.data());
  const int64_t at = std::min(n - 1, reached(weights.data(), n, target));
  return ids.empty() ? static_cast<int32_t>(at) : ids[static_cast<size_t>(at)];
}

int64_t generate(Model& model, Context context, std::span<const int32_t> prompt, int64_t count,
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
  const auto state = model.start_decoding(context, length + count - 1);
  const Philox random(options.seed, "sample");
  std::vector<float> logits(static_cast<size_t>(model.vocab_size())), weights;
  for (int64_t i = 0; i + 1 < length; ++i) {
    model.prefill(context, *state, prompt[static_cast<size_t>(i)]);
  }
  int32_t token = prompt.back();
  for (int64_t i = 0; i < count; ++i) {
    model.decode(context, *state, token, logits.data());
    if (!all_finite(logits.data(), static_cast<int64_t>(logits.size()))) {
      throw DivergedError(message("the model's logits at position ", length - 1 + i,
                                  " are not finite: its weights are broken, use another one"));
    }
    const double coin = Philox::uniform(random.block(static_cast<uint64_t>(i))[0]);
    token = sample_token(logits, options, coin, &weights);
    emit(token);
  }
  return count;
}

}  // namespace pyllmc
