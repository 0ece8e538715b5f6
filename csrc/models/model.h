// What the trainer and the programs know of a model.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/context.h"
#include "core/json.h"
#include "core/loss.h"
#include "layers/parameter.h"

namespace pyllmc {

// A batch is named tensors in the device's memory: a language model reads "inputs" (B, T) and
// "targets" (B, T), and on a GPU, for gradients, "order" (EmbeddingBackward).
class Batch {
 public:
  // The name outlives the batch: a literal. Throws UsageError beyond the fourth.
  void set(std::string_view name, Tokens tokens);
  // Throws UsageError when the batch has no such tensor.
  Tokens get(std::string_view name) const;
  // The same; null when the batch has none.
  Tokens find(std::string_view name) const;

 private:
  struct Named {
    std::string_view name;
    Tokens tokens;
  };
  std::array<Named, 4> tensors_{};  // an unused one has no name
};

// Throws UsageError for a batch that cannot be: B or T below 1, or more tokens than 32 bits count.
void require_batch_shape(int64_t B, int64_t T);

// What a model remembers of the positions it has read while decoding.
class DecodeState {
 public:
  virtual ~DecodeState() = default;
  int64_t position = 0;  // tokens read so far
  int64_t capacity = 0;  // tokens it can read
};

enum class Mode { evaluate, train };

// What a checkpoint says of the run that made it.
struct RunRecord {
  int64_t step = 0;
  std::optional<int64_t> init_seed{}, data_seed{};  // nothing: unknown
};

// A weight of every layer that may have a pattern, for logs and tables.
struct PatternedWeight {
  std::string name;                 // in keys: "fc1"
  std::vector<int64_t> bandwidths;  // that were asked for, of each layer; 0 = dense
  std::vector<Pattern> patterns;    // of each layer
  int64_t kept = 0, total = 0;      // entries of all layers: that may be non-zero, of full matrices
};

class Model {
 public:
  virtual ~Model() = default;

  virtual ParameterTable& parameters() = 0;
  virtual std::vector<PatternedWeight> patterned_weights() const = 0;
  // Its dimensions by the names that logs have for them.
  virtual JsonValue::Object dimensions() const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t max_seq_len() const = 0;

  // Bytes of activations and workspace for batches of (B, T). To be asked before prepare(). Both
  // throw UsageError for a shape that cannot be.
  virtual std::vector<MemoryNeed> plan(const Context& context, int64_t B, int64_t T, Mode mode) = 0;
  // Allocates them in place of those of an earlier call and completes `context` with its workspace.
  virtual void prepare(Context& context, int64_t B, int64_t T, Mode mode) = 0;

  // Adds the loss of a batch of the prepared shape to *total, over targets >= 0. Only enqueued on
  // a GPU; total and scale are in the device's memory.
  virtual void loss(const Context& context, const Batch& batch, Loss* total) = 0;
  // The same, and adds the gradients of *scale times the sum to the parameters' gradients.
  virtual void loss_and_gradients(const Context& context, const Batch& batch, const float* scale,
                                  Loss* total) = 0;

  // Writes the weights to a file that the programs read, atomically.
  virtual void save(const std::string& path, const RunRecord& record) = 0;

  // Decoding, one token at a time; needs no prepare(). `context` gets its workspace here.
  virtual std::unique_ptr<DecodeState> start_decoding(Context& context, int64_t capacity) = 0;
  // Reads one token.
  virtual void prefill(const Context& context, DecodeState& state, int32_t token) = 0;
  // Reads one token and writes the logits (V) of the next one.
  virtual void decode(const Context& context, DecodeState& state, int32_t token, float* logits) = 0;
};

}  // namespace pyllmc
