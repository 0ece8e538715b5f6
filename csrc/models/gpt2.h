// GPT-2 (Radford et al. 2019): learned positions, pre-LayerNorm blocks, tanh GELU, tied head; the
// MLP weights may be bands.
#pragma once

#include <deque>
#include <optional>

#include "formats/checkpoint.h"
#include "layers/layernorm.h"
#include "layers/mlp.h"
#include "layers/self_attention.h"
#include "models/model.h"

namespace pyllmc {

// How initial weights are drawn.
enum class Gpt2Init {
  gpt2,      // N(0, 0.02), residual projections / sqrt(2 L), biases 0
  original,  // experiments 7 to 9: all N(0, 0.02), Linear biases U(+-1 / sqrt(inputs))
};

class Gpt2 : public Model {
 public:
  // Bandwidths on the hidden axis, 0 = dense. Throws UsageError for an impossible shape. The
  // parameters are allocated by parameters().allocate().
  Gpt2(const Gpt2Config& config, int64_t fc1_bandwidth, int64_t fc2_bandwidth,
       Gpt2Init init = Gpt2Init::gpt2);

  const Gpt2Config& config() const { return config_; }
  int64_t fc1_bandwidth() const { return fc1_bandwidth_; }
  int64_t fc2_bandwidth() const { return fc2_bandwidth_; }
  // The pattern of either MLP weight, the same in every layer.
  const Pattern& fc1_pattern() const { return blocks_.front().mlp.fc1().weight().pattern; }
  const Pattern& fc2_pattern() const { return blocks_.front().mlp.fc2().weight().pattern; }

  ParameterTable& parameters() override { return table_; }
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t max_seq_len() const override { return config_.max_seq_len; }

  std::vector<MemoryNeed> plan(const Context& context, int64_t B, int64_t T, Mode mode) override;
  void prepare(Context& context, int64_t B, int64_t T, Mode mode) override;
  Loss loss(const Context& context, const Batch& batch) override;
  Loss loss_and_gradients(const Context& context, const Batch& batch, float scale) override;
  void save(const std::string& path, const RunRecord& record) override;
  std::unique_ptr<DecodeState> start_decoding(Context& context, int64_t capacity) override;
  void prefill(const Context& context, DecodeState& state, int32_t token) override;
  void decode(const Context& context, DecodeState& state, int32_t token, float* logits) override;

 private:
  struct Block {
    LayerNorm ln1;
    SelfAttention attention;
    LayerNorm ln2;
    Mlp mlp;
    Tensor after_attention;  // (B T, C): the residual stream
    Tensor after_mlp;        // (B T, C)
  };

  // Buffers that backward passes through, shared by all layers.
  struct BackwardBuffers {
    Tensor dx;      // (B T, C): gradient of the residual stream
    Tensor narrow;  // (B T, C)
    Tensor second;  // (B T, C)
    Tensor wide;    // (B T, max(3, H / C) C)
  };

  Block make_block(int64_t layer, Gpt2Init init);
  void reserve(Arena& arena, int64_t B, int64_t T, Mode mode);
  int64_t workspace_floats(const Context& context, int64_t B, int64_t T, Mode mode) const;
  // Runs the trunk; returns the normalized output (B T, C).
  Tensor forward(const Context& context, const Batch& batch);
  void backward(const Context& context, const Batch& batch);
  Tensor decode_trunk(const Context& context, DecodeState& state, int32_t token);

  Gpt2Config config_;
  int64_t fc1_bandwidth_, fc2_bandwidth_;
  ParameterTable table_;
  Parameter& wte_;
  Parameter& wpe_;
  std::deque<Block> blocks_;
  std::optional<LayerNorm> final_norm_;

  int64_t B_ = 0, T_ = 0;
  Memory activations_, workspace_;
  Tensor embedded_;  // (B T, C)
  BackwardBuffers buffers_;
};

}  // namespace pyllmc
