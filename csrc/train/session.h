// A training run from settings to its last checkpoint: validate, sample, step, save, in the order
// and numbering of the original's logs. What happens is told to observers; nothing is printed here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/file_lock.h"
#include "formats/tokenizer.h"
#include "formats/training_state.h"
#include "models/gpt2.h"
#include "train/trainer.h"

namespace pyllmc {

// One setting a flag of train_banded; the defaults are experiment 9's.
struct TrainSettings {
  std::string model = "model.bin";
  std::string checkpoint;        // "" = none is written, and no state
  int64_t checkpoint_every = 0;  // 0 = at the end only
  bool resume = false;           // continue from the newest state beside the checkpoint
  std::string allow_changed;     // settings that may differ from the state's (train/changes.h)
  std::string train_data = "data/tinystories/TinyStories_train.bin";
  std::string val_data = "data/tinystories/TinyStories_val.bin";
  std::string test_data;  // "" = no test loss
  std::string log;        // "" = no log
  std::string tokenizer;  // "" = looked for beside the data
  int64_t steps = -1;     // negative = one epoch
  int64_t batch_size = 4;
  std::optional<int64_t> sequence_length;  // default min(1024, maxT)
  double learning_rate = 3e-4;
  int64_t warmup = 0;
  std::optional<double> min_lr;  // set: cosine
  double weight_decay = 0;
  double grad_clip = 0;
  int64_t accumulate = 1;
  int64_t val_every = 20;  // 0 = first and last step only
  int64_t val_batches = 20;
  int64_t train_eval_batches = 0;  // of the training data, with every validation; 0 = none
  int64_t sample_every = 20;       // 0 = at the end only
  int64_t sample_length = 64;      // sample_length - 1 tokens are drawn
  // On the hidden axis, 0 = dense: of all layers, or one for each.
  std::vector<int64_t> fc1_bandwidth = {0};
  std::vector<int64_t> fc2_bandwidth = {0};
  std::string pattern = "band";     // a name of sparsity/pattern.h
  int64_t mask_seed = 1337;         // of patterns that are drawn
  std::string init_scale = "none";  // or "inverse-sqrt-density"
  bool mask_init = true;
  std::string execution = "band";    // or "mask"
  std::string precision = "fp32";    // or "bf16", on a GPU also "tf32"
  std::string device = "auto";       // or "cpu", "cuda"; resolved to one of these
  std::optional<int64_t> init_seed;  // default: the model file's, else 1337
  int64_t data_seed = 42;
  int threads = 0;  // 0 = all processors
};

enum class EndStatus { done, diverged, interrupted };

// How far a log's two files go.
struct LogPosition {
  int64_t text_bytes = 0;
  int64_t json_bytes = 0;
};

struct BestLoss {
  double loss;
  int64_t step;
};

// What a run knows at a step beside the trainer's own state; part of its training states.
struct RunProgress {
  bool evaluated = false;  // validation and sample that are due at this step have been made
  std::optional<BestLoss> best;
  std::optional<LogPosition> log;
};

// Where a resumed run goes on.
struct ResumeFacts {
  std::string folder;  // of the state
  int64_t step;
  RunProgress progress;
  bool finished;                        // nothing is left to do
  std::string changed;                  // differences that were allowed, "" = none
  std::vector<std::string> unreadable;  // newer states, and why they were passed over
};

// What is known once everything is open and before anything is allocated.
struct TrainFacts {
  TrainSettings settings;  // with every default resolved
  Gpt2Config config;
  int64_t hidden, mlp_rank;      // of the MLP
  JsonValue::Object dimensions;  // of the model, by the log's names
  ModelRecord start;             // what the model file records of the run that made it
  int64_t parameters;
  std::vector<PatternedWeight> weights;
  int64_t train_tokens, val_tokens;  // in the files
  int64_t train_batches, val_batches_used;
  uint64_t train_fingerprint, val_fingerprint;
  std::vector<MemoryNeed> memory;
  int64_t memory_available;
  std::string tokenizer;   // the file in use, "" when there is none
  std::string state_root;  // folder of the training states, "" without checkpoint
  std::string set_aside;   // where an earlier run's states are now, "" = there were none
  std::optional<ResumeFacts> resumed;  // nothing: the run starts at step 0
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void started(const TrainFacts&) {}
  virtual void validated(int64_t /*step*/, const Loss&) {}
  virtual void measured_train_subset(int64_t /*step*/, const Loss&) {}
  virtual void stepped(const StepResult&, double /*seconds*/, int64_t /*tokens*/) {}
  virtual void sampled(int64_t /*step*/, const std::string& /*text*/) {}
  virtual void saved(int64_t /*step*/, const std::string& /*path*/) {}
  virtual void tested(int64_t /*step*/, const Loss&) {}
  virtual void ended(int64_t /*step*/, EndStatus) {}
  // Makes durable what was told so far; answers how far the log goes, if this observer keeps it.
  virtual std::optional<LogPosition> sync() { return std::nullopt; }
};

class TrainSession {
 public:
  // Opens and checks every input, chooses the state to resume from, or sets aside an earlier run's;
  // throws before anything large is allocated. As long as it lives no other process can have the
  // same checkpoint.
  explicit TrainSession(const TrainSettings& settings);

  const TrainFacts& facts() const { return facts_; }

  // Runs to the end, or until `stop_requested` answers true after a step or a validation: then it
  // saves and returns `interrupted`. A divergence is told to the observers and thrown on, with the
  // name of the last good state. Does nothing when the resumed run is finished.
  EndStatus run(const std::vector<TrainObserver*>& observers,
                const std::function<bool()>& stop_requested);

 private:
  class Run;

  TrainerOptions trainer_options() const;
  // What a log depends on beside the trainer's configuration.
  JsonValue::Object run_configuration() const;
  void choose_state(const TokenShards& train_data);
  std::string sample_text(Trainer& trainer, int64_t step) const;

  FileLock lock_;  // of checkpoint and states
  ModelFile file_;
  std::unique_ptr<Gpt2> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<DataLoader> val_, test_;
  TrainFacts facts_;
  Changes changes_;
  std::optional<StateReader> state_;  // until it is read
};

}  // namespace pyllmc
