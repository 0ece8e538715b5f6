#include "models/gpt2.h"

#include <algorithm>
#include <cmath>

#include "core/device.h"
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

void resolve(const char* name, std::vector<int64_t>& bandwidths, int64_t layers) {
  if (bandwidths.size() == 1) bandwidths.resize(static_cast<size_t>(layers), bandwidths[0]);
  if (static_cast<int64_t>(bandwidths.size()) != layers) {
    throw UsageError(message(bandwidths.size(), " ", name, " bandwidths were given, the model has ",
                             layers, " layers: give one, or one for each"));
  }
}

// The options with H and every layer's bandwidths filled in.
Gpt2Options resolved(Gpt2Options options) {
  checkpoint_layout(options.config);  // refuses dimensions that cannot be
  if (options.hidden == 0) options.hidden = 4 * options.config.channels;
  model_layout({options.config, options.hidden, options.mlp_rank});
  resolve("FC1", options.fc1_bandwidths, options.config.num_layers);
  resolve("FC2", options.fc2_bandwidths, options.config.num_layers);
  if (options.mlp_rank > 0) {
    for (const auto* bandwidths : {&options.fc1_bandwidths, &options.fc2_bandwidths}) {
      for (const int64_t bandwidth : *bandwidths) {
        if (bandwidth == 0) continue;
        throw UsageError(message("bandwidth ", bandwidth, " was asked of an MLP of rank ",
                                 options.mlp_rank, ": a low-rank weight has no pattern, use 0"));
      }
    }
  }
  return options;
}

}  // namespace

Gpt2::Gpt2(const Gpt2Options& options)
    : options_(resolved(options)),
      wte_(table_.add(embedding_table("wte", config().padded_vocab_size, config().channels,
                                      config().vocab_size))),
      wpe_(table_.add(embedding_table("wpe", config().max_seq_len, config().channels, -1))) {
  for (int64_t layer = 0; layer < config().num_layers; ++layer) {
    blocks_.push_back(make_block(layer));
  }
  final_norm_.emplace(table_, "lnf", config().channels);
}

Gpt2::Block Gpt2::make_block(int64_t layer) {
  const int64_t C = config().channels, H = options_.hidden;
  const std::string name = "h." + std::to_string(layer) + ".";
  const bool original = options_.init == Gpt2Init::original;
  const Initial weight{Initial::Kind::normal, kStddev};
  // Radford et al. 2019: the 2 L additions to the residual stream are scaled down at the start.
  const double residual = std::sqrt(2.0 * static_cast<double>(config().num_layers));
  const Initial projection{Initial::Kind::normal, original ? kStddev : kStddev / residual};
  const auto bias = [&](int64_t inputs) {
    if (!original) return Initial{};
    return Initial{Initial::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(inputs))};
  };
  const auto pattern = [&](const char* weight, HiddenAxis hidden, int64_t bandwidth) {
    const PatternSource source = {options_.pattern, options_.mask_seed, name, name + weight};
    const bool fc1 = hidden == HiddenAxis::rows;
    return Pattern::make(source, fc1 ? H : C, fc1 ? C : H, hidden, bandwidth);
  };
  const auto at = static_cast<size_t>(layer);
  return {
      .ln1 = LayerNorm(table_, name + "ln1", C),
      .attention = SelfAttention(table_, name, C, config().num_heads, weight, projection, bias(C)),
      .ln2 = LayerNorm(table_, name + "ln2", C),
      .mlp = Mlp(table_, name, C, H, weight, projection, bias(C), bias(H), options_.mlp_rank,
                 pattern("fcw", HiddenAxis::rows, options_.fc1_bandwidths[at]),
                 pattern("fcprojw", HiddenAxis::cols, options_.fc2_bandwidths[at])),
      .after_attention = {},
      .after_mlp = {}};
}

const Pattern& Gpt2::fc1_pattern(int64_t layer) const {
  return blocks_[static_cast<size_t>(layer)].mlp.fc1().weight().pattern;
}

const Pattern& Gpt2::fc2_pattern(int64_t layer) const {
  return blocks_[static_cast<size_t>(layer)].mlp.fc2().weight().pattern;
}

Gpt2::Kept Gpt2::fc1_kept() const {
  Kept sum = {0, config().num_layers * options_.hidden * config().channels};
  for (const Block& block : blocks_) sum.kept += block.mlp.fc1().kept();
  return sum;
}

Gpt2::Kept Gpt2::fc2_kept() const {
  Kept sum = {0, config().num_layers * options_.hidden * config().channels};
  for (const Block& block : blocks_) sum.kept += block.mlp.fc2().kept();
  return sum;
}

void Gpt2::scale_initial_weights() {
  for (Parameter& p : table_.entries()) {
    if (p.pattern.is_dense()) continue;
    const auto factor = static_cast<float>(1 / std::sqrt(p.pattern.density()));
    std::vector<float> values(static_cast<size_t>(p.numel()));
    table_.read(p, p.value.data(), values.data());
    for (float& value : values) value *= factor;
    table_.write(p, values.data(), p.value.data());
  }
}

void Gpt2::reserve(Arena& arena, DType activations, int64_t B, int64_t T, Mode mode) {
  const int64_t rows = B * T, C = config().channels, H = options_.hidden;
  embedded_ = arena.reserve({rows, C});
  for (Block& block : blocks_) {
    block.ln1.reserve(arena, activations, rows);
    block.attention.reserve(arena, activations, B, T);
    block.after_attention = arena.reserve({rows, C});
    block.ln2.reserve(arena, activations, rows);
    block.mlp.reserve(arena, activations, rows);
    block.after_mlp = arena.reserve({rows, C});
  }
  final_norm_->reserve(arena, activations, rows);
  if (mode == Mode::evaluate) return;
  buffers_.dx = arena.reserve({rows, C});
  buffers_.dx_copy = activations == DType::fp32 ? Tensor() : arena.reserve({rows, C}, activations);
  buffers_.narrow = arena.reserve({rows, C}, activations);
  buffers_.second = arena.reserve({rows, C}, activations);
  buffers_.wide = arena.reserve({rows, std::max(3 * C, H)}, activations);
}

// Training evaluates too, in the same workspace.
int64_t Gpt2::workspace_floats(const Context& context, int64_t B, int64_t T, Mode mode) const {
  const int64_t rows = B * T, C = config().channels, V = config().vocab_size;
  const bool train = mode == Mode::train;
  int64_t floats = classifier_workspace(context, rows, C, V, false);
  if (train) {
    floats = std::max({floats, classifier_workspace(context, rows, C, V, true),
                       layernorm_workspace(context, rows, C)});
  }
  for (const Block& block : blocks_) {
    floats = std::max({floats, block.attention.workspace(context, B, T, train),
                       block.mlp.workspace(context, rows, train)});
  }
  return floats;
}

std::vector<MemoryNeed> Gpt2::plan(const Context& context, int64_t B, int64_t T, Mode mode) {
  require_batch_shape(B, T);
  Arena counting;
  reserve(counting, context.activations(), B, T, mode);
  return {{"activations", counting.bytes()},
          {"workspace", floats_to_bytes(workspace_floats(context, B, T, mode))}};
}

void Gpt2::prepare(Context& context, int64_t B, int64_t T, Mode mode) {
  if (T > config().max_seq_len) {
    throw UsageError(
        message("sequence length T = ", T, " exceeds the model's maxT = ", config().max_seq_len));
  }
  require_batch_shape(B, T);
  // Should memory not suffice, nothing is prepared: what was is freed first.
  B_ = T_ = 0;
  context.workspace = {};
  activations_.reset();
  workspace_.reset();
  Arena counting;
  reserve(counting, context.activations(), B, T, mode);
  activations_ = allocate(context.device, counting.bytes(), "activations");
  Arena arena(activations_, counting.bytes());
  reserve(arena, context.activations(), B, T, mode);
  const int64_t floats = workspace_floats(context, B, T, mode);
  workspace_ = allocate(context.device, floats_to_bytes(floats), "workspace");
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
                              .x = Tensor(embedded_.data(), {B_, T_, config().channels})});
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
  const int64_t rows = B_ * T_, C = config().channels;
  const Tensor dx = buffers_.dx, copy = buffers_.dx_copy, dnormalized = buffers_.second;
  const Tensor dy = copy ? copy : dx;
  const auto wide = [&](int64_t width) {
    return Tensor(buffers_.wide.data(), {rows, width}, buffers_.wide.type());
  };
  zero(context, dx.data(), dx.bytes());
  final_norm_->backward(context, buffers_.narrow, blocks_.back().after_mlp, dx, copy);
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    const auto next = std::next(block);
    const Tensor x = next == blocks_.rend() ? embedded_ : next->after_mlp;
    block->mlp.backward(context, dy, block->ln2.output(), dnormalized, wide(options_.hidden));
    block->ln2.backward(context, dnormalized, block->after_attention, dx, copy);
    block->attention.backward(context, dy, block->ln1.output(), dnormalized, wide(3 * C),
                              buffers_.narrow);
    block->ln1.backward(context, dnormalized, x, dx, copy);
  }
  embedding_backward(context, {.tokens = batch.get("inputs"),
                               .dx = Tensor(dx.data(), {B_, T_, C}),
                               .dwte = wte_.gradient,
                               .dwpe = wpe_.gradient,
                               .order = batch.find("order")});
}

// Of the batch's loss alone, after a forward pass.
ClassifierArgs Gpt2::classifier_args(const Context& context, const Batch& batch, Loss* total) {
  const Tokens targets = batch.get("targets");
  require_shape("gpt2", "targets", targets, {B_, T_});
  const Tensor x = forward(context, batch);
  return {.x = x,
          .wte = wte_.value,
          .targets = Tokens(targets.data(), {B_ * T_}),
          .vocab = config().vocab_size,
          .loss = total,
          .wte_bf16 = wte_.bf16};
}

void Gpt2::loss(const Context& context, const Batch& batch, Loss* total) {
  classifier(context, classifier_args(context, batch, total));
}

void Gpt2::loss_and_gradients(const Context& context, const Batch& batch, const float* scale,
                              Loss* total) {
  if (!table_.has_gradients() || !buffers_.dx) {
    throw UsageError("gradients were asked of a model that was prepared for evaluation only");
  }
  ClassifierArgs args = classifier_args(context, batch, total);
  args.scale = scale;
  args.dx = buffers_.narrow;
  args.dwte = wte_.gradient;
  classifier(context, args);
  backward(context, batch);
}

}  // namespace pyllmc
