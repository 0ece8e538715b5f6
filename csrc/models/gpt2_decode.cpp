// One token at a time, over the keys and values of those before it.
#include <algorithm>

#include "core/device.h"
#include "models/gpt2.h"
#include "ops/attention/attention.h"
#include "ops/embedding/embedding.h"
#include "ops/linear/linear.h"

namespace pyllmc {

// Keys and values of every layer, the scratch rows of one position, and what the host says of it.
struct Gpt2::KeyValueCache : DecodeState {
  struct Fed {
    int32_t token, position;
  };

  Memory memory, workspace, fed_memory, logits_memory;
  std::vector<Tensor> keys, values;  // (capacity, C) a layer
  Tensor x, y, normalized, statistics, qkv, heads, hidden, gelu, inner, logits;
  TensorOf<Fed> now;  // (1): in the device's memory
  Fed* fed =
      nullptr;  // (capacity), in the host's: one a position, as copies may still be under way
  float* host_logits = nullptr;  // (V)
  Graph trunk, trunk_and_head;

  void reserve(Arena& arena, DType activations, const Gpt2Options& options) {
    const Gpt2Config& config = options.config;
    const int64_t C = config.channels;
    keys.clear();
    values.clear();
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      keys.push_back(arena.reserve({capacity, C}, activations));
      values.push_back(arena.reserve({capacity, C}, activations));
    }
    x = arena.reserve({1, C});
    y = arena.reserve({1, C});
    normalized = arena.reserve({1, C}, activations);
    statistics = arena.reserve({1});
    qkv = arena.reserve({1, 3 * C}, activations);
    heads = arena.reserve({1, C}, activations);
    hidden = arena.reserve({1, options.hidden}, activations);
    gelu = arena.reserve({1, options.hidden}, activations);
    inner = arena.reserve({1, options.mlp_rank}, activations);
    logits = arena.reserve({1, config.vocab_size});
    now = arena.reserve<Fed>({1});
  }
};

std::unique_ptr<DecodeState> Gpt2::start_decoding(Context& context, int64_t capacity) {
  if (capacity < 1 || capacity > config().max_seq_len) {
    throw UsageError(message("decoding ", capacity,
                             " positions is not possible: the model has 1 to ",
                             config().max_seq_len));
  }
  table_.refresh(context);
  auto cache = std::make_unique<KeyValueCache>();
  cache->capacity = capacity;
  Arena counting;
  cache->reserve(counting, context.activations(), options_);
  cache->memory = allocate(context.device, counting.bytes(), "keys and values");
  Arena arena(cache->memory, counting.bytes());
  cache->reserve(arena, context.activations(), options_);
  const auto fed_bytes = capacity * static_cast<int64_t>(sizeof(KeyValueCache::Fed));
  cache->fed_memory = allocate_host(context.device, fed_bytes, "tokens");
  cache->fed = reinterpret_cast<KeyValueCache::Fed*>(cache->fed_memory.get());
  if (context.device != Device::cpu) {
    cache->logits_memory = allocate_host(context.device, cache->logits.bytes(), "logits");
    cache->host_logits = reinterpret_cast<float*>(cache->logits_memory.get());
  }
  int64_t floats = attention_workspace(context, 1, capacity, config().channels, config().num_heads);
  if (context.device != Device::cpu) {
    floats = std::max(
        floats, linear_workspace(context, 1, config().channels, config().padded_vocab_size, false));
    for (const Block& block : blocks_) {
      floats = std::max({floats, block.attention.workspace(context, 1, capacity, false),
                         block.mlp.workspace(context, 1, false)});
    }
  }
  cache->workspace =
      allocate(context.device, floats * static_cast<int64_t>(sizeof(float)), "workspace");
  context.workspace = Tensor(reinterpret_cast<float*>(cache->workspace.get()), {floats});
  return cache;
}

Gpt2::KeyValueCache& Gpt2::feed(const Context& context, DecodeState& state, int32_t token) {
  auto& cache = dynamic_cast<KeyValueCache&>(state);
  if (token < 0 || token >= config().vocab_size) {
    throw UsageError(
        message("token ", token, " is not in the vocabulary of ", config().vocab_size));
  }
  if (cache.position == cache.capacity) {
    throw UsageError(message("all ", cache.capacity, " positions have been read"));
  }
  KeyValueCache::Fed* fed = cache.fed + cache.position;
  *fed = {token, static_cast<int32_t>(cache.position)};
  copy(context, cache.now.data(), fed, cache.now.bytes());
  ++cache.position;
  return cache;
}

Tensor Gpt2::decode_trunk(const Context& context, KeyValueCache& cache) {
  const int64_t C = config().channels;
  const KeyValueCache::Fed* now = cache.now.data();
  embedding_forward(context, {.tokens = Tokens(&now->token, {1, 1}),
                              .wte = wte_.value,
                              .wpe = wpe_.value,
                              .x = Tensor(cache.x.data(), {1, 1, C}),
                              .first_position = &now->position});
  size_t layer = 0;
  for (Block& block : blocks_) {
    block.ln1.apply(context, cache.x, cache.normalized, cache.statistics);
    block.attention.decode(context, cache.normalized, cache.x, cache.y, cache.keys[layer],
                           cache.values[layer], &now->position, cache.qkv, cache.heads);
    block.ln2.apply(context, cache.y, cache.normalized, cache.statistics);
    block.mlp.apply(context, cache.normalized, cache.y, cache.x, cache.hidden, cache.gelu,
                    cache.inner);
    ++layer;
  }
  final_norm_->apply(context, cache.x, cache.normalized, cache.statistics);
  return cache.normalized;
}

void Gpt2::prefill(const Context& context, DecodeState& state, int32_t token) {
  KeyValueCache& cache = feed(context, state, token);
  cache.trunk.run(context, [&] { decode_trunk(context, cache); });
}

void Gpt2::decode(const Context& context, DecodeState& state, int32_t token, float* logits) {
  KeyValueCache& cache = feed(context, state, token);
  const int64_t V = config().vocab_size, C = config().channels;
  const bool host = context.device == Device::cpu;
  const Tensor y = host ? Tensor(logits, {1, V}) : cache.logits;
  cache.trunk_and_head.run(context, [&] {
    const auto* copy = wte_.bf16.data();
    linear_forward(context, {.x = decode_trunk(context, cache),
                             .w = ConstTensor(wte_.value.data(), {V, C}),
                             .b = {},
                             .y = y,
                             .w_bf16 = copy ? TensorOf<const uint16_t>(copy, {V, C})
                                            : TensorOf<const uint16_t>()});
  });
  if (host) return;
  copy(context, cache.host_logits, y.data(), y.bytes());
  synchronize(context);
  std::copy_n(cache.host_logits, V, logits);
}

}  // namespace pyllmc
