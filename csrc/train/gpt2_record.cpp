#include "train/gpt2_record.h"

#include <algorithm>

namespace pyllmc {

JsonValue json_numbers(const std::vector<int64_t>& numbers) {
  if (std::ranges::adjacent_find(numbers, std::not_equal_to<>()) == numbers.end()) {
    return numbers.front();
  }
  return JsonValue::List(numbers.begin(), numbers.end());
}

JsonValue::Object gpt2_record(const Gpt2& model, const std::string& init_scale) {
  const Gpt2Options& o = model.options();
  return {{"channels", o.config.channels},
          {"layers", o.config.num_layers},
          {"heads", o.config.num_heads},
          {"max_sequence_length", o.config.max_seq_len},
          {"vocab_size", o.config.vocab_size},
          {"hidden", o.hidden},
          {"mlp_rank", o.mlp_rank},
          {"fc1_bandwidth", json_numbers(o.fc1_bandwidths)},
          {"fc2_bandwidth", json_numbers(o.fc2_bandwidths)},
          {"pattern", std::string(pattern_name(o.pattern))},
          {"mask_seed", static_cast<int64_t>(o.mask_seed)},
          {"init_scale", init_scale}};
}

}  // namespace pyllmc
