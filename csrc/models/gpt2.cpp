#include "models/gpt2.h"

#include <algorithm>
#include <cmath>

#include "ops/embedding/embedding.h"

namespace pyllmc {
namespace {

constexpr double kStddev = 0.02;

int64_t floats_to_bytes(int64_t floats) { return floats * static_cast<int64_t>(sizeof(float)); }

Parameter embedding_table(const char* name, int64_t rows, int64_t cols, int64_t initial_rows) {
  return {.name = name,
          .rows = rows,
          .cols = cols,
          .is_matrix = true,
          .initial = {Initial::Kind::normal, kStddev},
          .initial_rows = initial_rows};
}

const Gpt2Config& checked(const Gpt2Config& config) {
  checkpoint_layout(config);  // refuses dimensions that cannot be
  return config;
}

// Keys and values of every layer, and the scratch rows of one position.
struct KeyValueCache : DecodeState {
  Memory memory, workspace;
  std::vector<Tensor> keys, values;  // (capacity, C) a layer
  Tensor x, y, normalized, statistics, qkv, heads, hidden, gelu;

  void reserve(Arena& arena, const Gpt2Config& config) {
    const int64_t C = config.channels;
    keys.clear();
    values.clear();
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      keys.push_back(arena.reserve({capacity, C}));
      values.push_back(arena.reserve({capacity, C}));
    }
    x = arena.reserve({1, C});
    y = arena.reserve({1, C});
    normalized = arena.reserve({1, C});
    statistics = arena.reserve({1});
    qkv = arena.reserve({1, 3 * C});
    heads = arena.reserve({1, C});
    hidden = arena.reserve({1, 4 * C});
    gelu = arena.reserve({1, 4 * C});
  }
};

}  // namespace

Gpt2::Gpt2(const Gpt2Config& config, int64_t fc1_bandwidth, int64_t fc2_bandwidth, Gpt2Init init)
    : config_(checked(config)),
      fc1_bandwidth_(fc1_bandwidth),
      fc2_bandwidth_(fc2_bandwidth),
      wte_(table_.add(
          embedding_table("wte", config.padded_vocab_size, config.channels, config.vocab_size))),
      wpe_(table_.add(embedding_table("wpe", config.max_seq_len, config.channels, -1))) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(make_block(layer, init));
  }
  final_norm_.emplace(table_, "lnf", config.channels);
}

Gpt2::Block Gpt2::make_block(int64_t layer, Gpt2Init init) {
  const int64_t C = config_.channels, H = 4 * C;
  const std::string name = "h." + std::to_string(layer) + ".";
  const bool original = init == Gpt2Init::original;
  const Initial weight{Initial::Kind::normal, kStddev};
  // Radford et al. 2019: the 2 L additions to the residual stream are scaled down at the start.
  const double residual = std::sqrt(2.0 * static_cast<double>(config_.num_layers));
  const Initial projection{Initial::Kind::normal, original ? kStddev : kStddev / residual};
  const auto bias = [&](int64_t inputs) {
    if (!original) return Initial{};
    return Initial{Initial::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(inputs))};
  };
  return {
      .ln1 = LayerNorm(table_, name + "ln1", C),
      .attention = SelfAttention(table_, name, C, config_.num_heads, weight, projection, bias(C)),
      .ln2 = LayerNorm(table_, name + "ln2", C),
      .mlp = Mlp(table_, name, C, H, weight, projection, bias(C), bias(H),
                 Pattern::band(H, C, fc1_bandwidth_), Pattern::band(C, H, fc2_bandwidth_)),
      .after_attention = {},
      .after_mlp = {}};
}

void Gpt2::reserve(Arena& arena, int64_t B, int64_t T, Mode mode) {
  const int64_t rows = B * T, C = config_.channels, H = 4 * C;
  embedded_ = arena.reserve({rows, C});
  for (Block& block : blocks_) {
    block.ln1.reserve(arena, rows);
    block.attention.reserve(arena, B, T);
    block.after_attention = arena.reserve({rows, C});
    block.ln2.reserve(arena, rows);
    block.mlp.reserve(arena, rows);
    block.after_mlp = arena.reserve({rows, C});
  }
  final_norm_->reserve(arena, rows);
  if (mode == Mode::evaluate) return;
  buffers_.dx = arena.reserve({rows, C});
  buffers_.narrow = arena.reserve({rows, C});
  buffers_.second = arena.reserve({rows, C});
  buffers_.wide = arena.reserve({rows, std::max(3 * C, H)});
}

// Training evaluates too, in the same workspace.
int64_t Gpt2::workspace_floats(const Context& context, int64_t B, int64_t T, Mode mode) const {
  const int64_t rows = B * T, C = config_.channels, V = config_.vocab_size;
  const bool train = mode == Mode::train;
  int64_t floats = classifier_workspace(context, rows, C, V, false);
  if (train) {
    floats = std::max({floats, classifier_workspace(context, rows, C, V, true),
                       layernorm_workspace(rows, C)});
  }
  for (const Block& block : blocks_) {
    floats = std::max({floats, block.attention.workspace(context, B, T, train),
                       block.mlp.workspace(context, rows, train)});
  }
  return floats;
}

std::vector<MemoryNeed> Gpt2::plan(const Context& context, int64_t B, int64_t T, Mode mode) {
  Arena counting;
  reserve(counting, B, T, mode);
  return {{"activations", counting.bytes()},
          {"workspace", floats_to_bytes(workspace_floats(context, B, T, mode))}};
}

void Gpt2::prepare(Context& context, int64_t B, int64_t T, Mode mode) {
  if (T > config_.max_seq_len) {
    throw UsageError(
        message("sequence length T = ", T, " exceeds the model's maxT = ", config_.max_seq_len));
  }
  if (B < 1 || T < 1) {
    throw UsageError(
        message("a batch of ", B, " x ", T, " is not possible: both must be 1 or more"));
  }
  Arena counting;
  reserve(counting, B, T, mode);
  activations_ = allocate(counting.bytes(), "activations");
  Arena arena(activations_, counting.bytes());
  reserve(arena, B, T, mode);
  const int64_t floats = workspace_floats(context, B, T, mode);
  workspace_ = allocate(floats_to_bytes(floats), "workspace");
  context.workspace = Tensor(reinterpret_cast<float*>(workspace_.get()), {floats});
  B_ = B;
  T_ = T;
}

Tensor Gpt2::forward(const Context& context, const Batch& batch) {
  const Tokens inputs = batch.get("inputs");
  require_shape("gpt2", "inputs", inputs, {B_, T_});
  embedding_forward(context, {.tokens = inputs,
                              .wte = wte_.value,
                              .wpe = wpe_.value,
                              .x = Tensor(embedded_.data(), {B_, T_, config_.channels})});
  Tensor x = embedded_;
  for (Block& block : blocks_) {
    const Tensor before_attention = block.ln1.forward(context, x);
    block.attention.forward(context, before_attention, x, block.after_attention);
    const Tensor before_mlp = block.ln2.forward(context, block.after_attention);
    block.mlp.forward(context, before_mlp, block.after_attention, block.after_mlp);
    x = block.after_mlp;
  }
  return final_norm_->forward(context, x);
}

// Walks the blocks from the last to the first; dx is the gradient of the residual stream, to
// which every branch adds its own.
void Gpt2::backward(const Context& context, const Batch& batch) {
  const int64_t rows = B_ * T_, C = config_.channels;
  const Tensor dx = buffers_.dx, dnormalized = buffers_.second;
  const auto wide = [&](int64_t width) { return Tensor(buffers_.wide.data(), {rows, width}); };
  std::fill_n(dx.data(), dx.numel(), 0.0f);
  final_norm_->backward(context, buffers_.narrow, blocks_.back().after_mlp, dx);
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    const auto next = std::next(block);
    const Tensor x = next == blocks_.rend() ? embedded_ : next->after_mlp;
    block->mlp.backward(context, dx, block->ln2.output(), dnormalized, wide(4 * C));
    block->ln2.backward(context, dnormalized, block->after_attention, dx);
    block->attention.backward(context, dx, block->ln1.output(), dnormalized, wide(3 * C),
                              buffers_.narrow);
    block->ln1.backward(context, dnormalized, x, dx);
  }
  embedding_backward(context, {.tokens = batch.get("inputs"),
                               .dx = Tensor(dx.data(), {B_, T_, C}),
                               .dwte = wte_.gradient,
                               .dwpe = wpe_.gradient});
}

Loss Gpt2::loss(const Context& context, const Batch& batch) {
  const Tensor x = forward(context, batch);
  const Tokens targets = batch.get("targets");
  return classifier(context, {.x = x,
                              .wte = wte_.value,
                              .targets = Tokens(targets.data(), {B_ * T_}),
                              .vocab = config_.vocab_size});
}

Loss Gpt2::loss_and_gradients(const Context& context, const Batch& batch, float scale) {
  if (!table_.has_gradients() || !buffers_.dx) {
    throw UsageError("gradients were asked of a model that was prepared for evaluation only");
  }
  const Tensor x = forward(context, batch);
  const Tokens targets = batch.get("targets");
  const Loss loss = classifier(context, {.x = x,
                                         .wte = wte_.value,
                                         .targets = Tokens(targets.data(), {B_ * T_}),
                                         .vocab = config_.vocab_size,
                                         .scale = scale,
                                         .dx = buffers_.narrow,
                                         .dwte = wte_.gradient});
  backward(context, batch);
  return loss;
}

std::unique_ptr<DecodeState> Gpt2::start_decoding(Context& context, int64_t capacity) {
  if (capacity < 1 || capacity > config_.max_seq_len) {
    throw UsageError(message("decoding ", capacity,
                             " positions is not possible: the model has 1 to ",
                             config_.max_seq_len));
  }
  auto cache = std::make_unique<KeyValueCache>();
  cache->capacity = capacity;
  Arena counting;
  cache->reserve(counting, config_);
  cache->memory = allocate(counting.bytes(), "keys and values");
  Arena arena(cache->memory, counting.bytes());
  cache->reserve(arena, config_);
  const int64_t floats = attention_workspace(context, capacity, config_.num_heads);
  cache->workspace = allocate(floats_to_bytes(floats), "workspace");
  context.workspace = Tensor(reinterpret_cast<float*>(cache->workspace.get()), {floats});
  return cache;
}

Tensor Gpt2::decode_trunk(const Context& context, DecodeState& state, int32_t token) {
  auto& cache = dynamic_cast<KeyValueCache&>(state);
  const int64_t C = config_.channels;
  if (token < 0 || token >= config_.vocab_size) {
    throw UsageError(message("token ", token, " is not in the vocabulary of ", config_.vocab_size));
  }
  if (cache.position == cache.capacity) {
    throw UsageError(message("all ", cache.capacity, " positions have been read"));
  }
  embedding_forward(context, {.tokens = Tokens(&token, {1, 1}),
                              .wte = wte_.value,
                              .wpe = wpe_.value,
                              .x = Tensor(cache.x.data(), {1, 1, C}),
                              .first_position = cache.position});
  ++cache.position;
  size_t layer = 0;
  for (Block& block : blocks_) {
    block.ln1.apply(context, cache.x, cache.normalized, cache.statistics);
    block.attention.decode(context, cache.normalized, cache.x, cache.y, cache.keys[layer],
                           cache.values[layer], cache.position, cache.qkv, cache.heads);
    block.ln2.apply(context, cache.y, cache.normalized, cache.statistics);
    block.mlp.apply(context, cache.normalized, cache.y, cache.x, cache.hidden, cache.gelu);
    ++layer;
  }
  final_norm_->apply(context, cache.x, cache.normalized, cache.statistics);
  return cache.normalized;
}

void Gpt2::prefill(const Context& context, DecodeState& state, int32_t token) {
  decode_trunk(context, state, token);
}

void Gpt2::decode(const Context& context, DecodeState& state, int32_t token, float* logits) {
  const Tensor x = decode_trunk(context, state, token);
  const int64_t V = config_.vocab_size;
  linear_forward(context, {.x = x,
                           .w = ConstTensor(wte_.value.data(), {V, config_.channels}),
                           .b = {},
                           .y = Tensor(logits, {1, V})});
}

}  // namespace pyllmc
