#include "models/gpt2_record.h"

namespace pyllmc {

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

JsonValue::Object Gpt2::dimensions() const {
  return {{"channels", config().channels},     {"layers", config().num_layers},
          {"heads", config().num_heads},       {"hidden", options_.hidden},
          {"mlp_rank", options_.mlp_rank},     {"max_sequence_length", config().max_seq_len},
          {"vocab_size", config().vocab_size}, {"padded_vocab_size", config().padded_vocab_size}};
}

std::vector<PatternedWeight> Gpt2::patterned_weights() const {
  std::vector<Pattern> fc1, fc2;
  for (int64_t layer = 0; layer < config().num_layers; ++layer) {
    fc1.push_back(fc1_pattern(layer));
    fc2.push_back(fc2_pattern(layer));
  }
  return {{"fc1", options_.fc1_bandwidths, std::move(fc1), fc1_kept().kept, fc1_kept().total},
          {"fc2", options_.fc2_bandwidths, std::move(fc2), fc2_kept().kept, fc2_kept().total}};
}

}  // namespace pyllmc
