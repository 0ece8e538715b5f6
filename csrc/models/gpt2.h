// GPT-2 (Radford et al. 2019): learned positions, pre-LayerNorm blocks, tanh GELU, tied head; the
// MLP weights may have patterns or a low rank.
#pragma once

#include <deque>
#include <optional>

#include "layers/layernorm.h"
#include "layers/mlp.h"
#include "layers/self_attention.h"
#include "models/model.h"
#include "models/model_file.h"
#include "ops/classifier/classifier.h"

namespace pyllmc {

// How initial weights are drawn.
enum class Gpt2Init {
  gpt2,      // N(0, 0.02), residual projections / sqrt(2 L), biases 0
  original,  // experiments 7 to 9: all N(0, 0.02), Linear biases U(+-1 / sqrt(inputs))
};

// What a GPT-2 is made of.
struct Gpt2Options {
  Gpt2Config config;
  // On the hidden axis, 0 = dense: one value for all layers, or one for each.
  std::vector<int64_t> fc1_bandwidths = {0}, fc2_bandwidths = {0};
  PatternKind pattern = PatternKind::band;  // of the weights that have a bandwidth
  uint64_t mask_seed = 1337;                // of patterns that are drawn
  int64_t hidden = 0;                       // H of the MLP; 0 = 4C
  int64_t mlp_rank = 0;                     // of both MLP weights; 0 = full
  Gpt2Init init = Gpt2Init::gpt2;
};

class Gpt2 : public Model {
 public:
  // Weights of either kind in all layers: how many may be non-zero, of how many in full matrices.
  struct Kept {
    int64_t kept, total;
  };

  // Throws UsageError for an impossible shape. The parameters are allocated by
  // parameters().allocate().
  explicit Gpt2(const Gpt2Options& options);

  // With every default resolved: H, and one bandwidth a layer.
  const Gpt2Options& options() const { return options_; }
  const Gpt2Config& config() const { return options_.config; }
  Gpt2Shape shape() const { return {options_.config, options_.hidden, options_.mlp_rank}; }
  // The patterns of a layer's MLP weights (of their second factors when they have a rank).
  const Pattern& fc1_pattern(int64_t layer = 0) const;
  const Pattern& fc2_pattern(int64_t layer = 0) const;
  Kept fc1_kept() const;
  Kept fc2_kept() const;

  // Multiplies every weight that its pattern leaves incomplete by 1 / sqrt(density), which gives
  // its outputs the variance that the full weight's have. For initial weights, once, before the
  // first step.
  void scale_initial_weights();

  ParameterTable& parameters() override { return table_; }
  std::vector<PatternedWeight> patterned_weights() const override;
  JsonValue::Object dimensions() const override;
  int64_t vocab_size() const override { return options_.config.vocab_size; }
  int64_t max_seq_len() const override { return options_.config.max_seq_len; }

  std::vector<MemoryNeed> plan(const Context& context, int64_t B, int64_t T, Mode mode) override;
  void prepare(Context& context, int64_t B, int64_t T, Mode mode) override;
  void loss(const Context& context, const Batch& batch, Loss* total) override;
  void loss_and_gradients(const Context& context, const Batch& batch, const float* scale,
                          Loss* total) override;
  // A dense model of unknown seeds becomes a plain llm.c file; else an unknown seed is written as
  // 0.
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
    Tensor dx;       // (B T, C): gradient of the residual stream
    Tensor dx_copy;  // (B T, C): the same as bf16, null where activations are fp32
    Tensor narrow;   // (B T, C)
    Tensor second;   // (B T, C)
    Tensor wide;     // (B T, max(3C, H))
  };

  Block make_block(int64_t layer);
  void reserve(Arena& arena, DType activations, int64_t B, int64_t T, Mode mode);
  ClassifierArgs classifier_args(const Context& context, const Batch& batch, Loss* total);
  int64_t workspace_floats(const Context& context, int64_t B, int64_t T, Mode mode) const;
  // Runs the trunk; returns the normalized output (B T, C).
  Tensor forward(const Context& context, const Batch& batch);
  void backward(const Context& context, const Batch& batch);
  struct KeyValueCache;
  // Checks the token and puts it where decode_trunk() reads it.
  KeyValueCache& feed(const Context& context, DecodeState& state, int32_t token);
  // Runs the trunk for the position that was fed; returns its normalized output (1, C).
  Tensor decode_trunk(const Context& context, KeyValueCache& cache);

  Gpt2Options options_;
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
