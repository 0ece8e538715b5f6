// The one trainer: model, optimizer, loader and schedule. The programs and Python drive this
// object.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/communicator.h"
#include "core/device.h"
#include "core/json.h"
#include "formats/training_state.h"
#include "models/model.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "train/batch_feed.h"
#include "train/changes.h"
#include "train/data_loader.h"
#include "train/sampler.h"

namespace pyllmc {

// How a banded weight is kept while it trains: only its band where that pays, or the whole with a
// mask.
enum class Execution { band, mask };

inline const char* name_of(Execution execution) {
  return execution == Execution::band ? "band" : "mask";
}

// Throws UsageError for any other name.
Execution execution_of(const std::string& name);

struct TrainerOptions {
  int64_t batch_size = 4;         // B
  int64_t sequence_length = 256;  // T
  int64_t accumulate = 1;         // batches of B summed into one update
  Schedule schedule{};
  AdamWOptions adamw{};
  bool mask_init = true;  // mask the initial weights too; else only gradients and updates
  Execution execution = Execution::band;
  Precision precision = Precision::fp32;  // of the operands of products; sums and weights are fp32
  uint32_t data_seed = 42;
  std::optional<int64_t> init_seed{};  // recorded in checkpoints; nothing: unknown
  int threads = 1;
  Device device = Device::cpu;
  JsonValue::Object model{};  // the model in words, for the record in its states
};

struct StepResult {
  int64_t step;  // updates done before this one
  double loss;   // mean over the update's targets, before it
  double learning_rate;
  double gradient_norm;  // of the masked gradient, before clipping
};

class Trainer {
 public:
  // Chooses how the model's weights are stored; before anything asks for their memory. With an
  // unmasked start the whole weights are needed until the first update: step() changes over then.
  static void choose_storage(Model& model, const TrainerOptions& options);
  // What a run with these options will take: asked, and shown, before anything is allocated.
  static std::vector<MemoryNeed> memory_needs(Model& model, const TrainerOptions& options);
  // Throws UsageError, naming what would fit, when the needs exceed `available` bytes.
  static void check_memory(Model& model, const TrainerOptions& options, int64_t available);

  // The model's parameters are allocated on the options' device, with gradients, and hold the
  // initial weights. Throws UsageError for options that cannot work.
  Trainer(std::unique_ptr<Model> model, const TrainerOptions& options,
          const std::string& train_data);

  // One update. Throws DivergedError, before changing any weight, when the loss or the gradient is
  // not finite.
  StepResult step();

  // Loss of the first `max_batches` batches of `data`, in file order.
  Loss evaluate(DataLoader& data, int64_t max_batches);
  // The same of the training data.
  Loss evaluate_training_data(int64_t max_batches) { return evaluate(data_, max_batches); }

  // Continues a prompt with the weights as they are: generate() of train/sampler.h.
  int64_t sample(std::span<const int32_t> prompt, int64_t count, const SamplingOptions& options,
                 const std::function<void(int32_t)>& emit);

  // The weights as a model file. Throws DivergedError when one is not finite, WriteError.
  void save(const std::string& path);

  // Writes a training state under `root` (formats/training_state.h): weights, optimizer slots,
  // step, configuration, loader position, and `run`, which is whatever the caller wants back.
  // Returns its folder. Throws DivergedError when a weight is not finite, WriteError.
  std::string save_state(const std::string& root, JsonValue::Object run = {});
  // Continues from a state: every number from here on is what it would have been without a stop.
  // Throws FormatError when the state is of other parameters or contradicts itself. That settings
  // and data are the same is Changes' to find.
  void resume(const StateReader& state, const Changes& changes);

  // What the numbers of a run depend on, as recorded in its states.
  static JsonValue::Object configuration(const TrainerOptions& options, const TokenShards& data);

  Model& model() { return *model_; }
  const TrainerOptions& options() const { return options_; }
  const AdamW& optimizer() const { return optimizer_; }
  const Context& context() const { return context_; }
  const DataLoader& data() const { return data_; }
  int64_t steps_done() const { return state_.step; }
  int64_t tokens_per_step() const;

 private:
  struct OnDevice {
    StepState state;
    Loss evaluation;
  };

  void prepare();
  int64_t batch_number(int64_t step, int64_t micro_step) const;
  void stage(int64_t step);
  void run_update(StepState* state);
  void require_finite_weights() const;
  void store_bands();
  JsonValue::Object loader_position();

  std::unique_ptr<Model> model_;
  TrainerOptions options_;
  Communicator communicator_;
  Stream stream_;
  Context context_;
  DataLoader data_;
  AdamW optimizer_;
  StepState state_;

  // On a GPU only: the batches of an update and of an evaluation on their way there, what a step
  // writes there and its copy on the host, and the recordings.
  std::optional<BatchFeed> feed_, evaluation_feed_;
  int64_t staged_step_ = -1;
  Memory device_memory_, host_memory_;
  Graph step_graph_, evaluation_graph_;
};

}  // namespace pyllmc
