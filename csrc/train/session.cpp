#include "train/session.h"

#include <algorithm>
#include <filesystem>

#include "core/require.h"
#include "core/threads.h"
#include "formats/atomic_file.h"
#include "models/gpt2_record.h"
#include "train/find_tokenizer.h"

namespace pyllmc {
namespace {

constexpr int64_t kDefaultInitSeed = 1337;

// Counts fit 32 bits: checkpoints record them so, and a product of two does not overflow.
void require_at_least(const char* name, int64_t value, int64_t least) {
  if (value < least) {
    throw UsageError(message(name, " is ", value, ", it must be ", least, " or more"));
  }
  if (value > INT32_MAX) {
    throw UsageError(message(name, " is ", value, ", it must be at most ", INT32_MAX));
  }
}

void require_not_negative(const char* name, double value) {
  if (!(value >= 0)) throw UsageError(message(name, " is ", value, ", it must be 0 or more"));
}

// The settings, if they can work with any model and data.
const TrainSettings& checked(const TrainSettings& s) {
  require_at_least("--batch-size", s.batch_size, 1);
  require_at_least("--accumulate", s.accumulate, 1);
  require_at_least("--steps", std::max<int64_t>(s.steps, 0), 0);
  for (const int64_t bandwidth : s.fc1_bandwidth) require_at_least("--fc1-bandwidth", bandwidth, 0);
  for (const int64_t bandwidth : s.fc2_bandwidth) require_at_least("--fc2-bandwidth", bandwidth, 0);
  pattern_kind(s.pattern);
  require_seed("--mask-seed", s.mask_seed);
  if (s.init_scale != "none" && s.init_scale != kInverseSqrtDensity) {
    throw UsageError(
        message("--init-scale is '", s.init_scale, "', it must be none or ", kInverseSqrtDensity));
  }
  require_at_least("--val-every", s.val_every, 0);
  require_at_least("--val-batches", s.val_batches, 1);
  require_at_least("--sample-every", s.sample_every, 0);
  require_at_least("--sample-length", s.sample_length, 0);
  require_at_least("--checkpoint-every", s.checkpoint_every, 0);
  require_at_least("--train-eval-batches", s.train_eval_batches, 0);
  require_at_least("--warmup", s.warmup, 0);
  require_at_least("--threads", s.threads, 0);
  require_seed("--data-seed", s.data_seed);
  if (s.init_seed) require_seed("--init-seed", *s.init_seed);
  if (s.sequence_length) require_at_least("--sequence-length", *s.sequence_length, 1);
  require_not_negative("--learning-rate", s.learning_rate);
  require_not_negative("--weight-decay", s.weight_decay);
  require_not_negative("--grad-clip", s.grad_clip);
  if (s.min_lr && !(*s.min_lr >= 0 && *s.min_lr <= s.learning_rate)) {
    throw UsageError(message("--min-lr is ", *s.min_lr,
                             ", it must lie between 0 and the learning rate ", s.learning_rate));
  }
  execution_of(s.execution);
  require_precision(device_of(s.device), precision_of(s.precision));
  if (s.checkpoint_every > 0 && s.checkpoint.empty()) {
    throw UsageError("--checkpoint-every needs --checkpoint FILE to write to");
  }
  if (s.resume && s.checkpoint.empty()) {
    throw UsageError("--resume needs --checkpoint FILE, beside which the states lie");
  }
  if (!s.allow_changed.empty() && !s.resume) throw UsageError("--allow-changed needs --resume");
  if (std::error_code error; !std::filesystem::exists(s.model, error)) {
    throw FormatError(message("there is no model ", s.model,
                              "; name one with --model or make one with 'pyllmc model init'"));
  }
  return s;
}

Gpt2Options model_options(const ModelFile& file, const TrainSettings& s) {
  return {.config = file.config(),
          .fc1_bandwidths = s.fc1_bandwidth,
          .fc2_bandwidths = s.fc2_bandwidth,
          .pattern = pattern_kind(s.pattern),
          .mask_seed = static_cast<uint64_t>(s.mask_seed),
          .hidden = file.shape().hidden,
          .mlp_rank = file.shape().mlp_rank};
}

// Beside the checkpoint, not in the folder of states: that is renamed when a run starts anew.
std::string lock_file(const std::string& checkpoint) {
  const std::filesystem::path path(checkpoint);
  return path.parent_path() / message(".", path.stem().string(), ".lock");
}

// X_tokenizer.bin beside X_train.bin, then any beside it, then any in the working directory.
std::string tokenizer_of(const TrainSettings& settings, int64_t vocab) {
  if (!settings.tokenizer.empty()) return settings.tokenizer;
  const std::filesystem::path data(settings.train_data), folder = data.parent_path();
  const std::string name = data.filename().string();
  const size_t at = name.rfind("_train");
  const std::filesystem::path own =
      at == std::string::npos ? "" : folder / (name.substr(0, at) + "_tokenizer.bin");
  return find_tokenizer(own, {folder, ""}, vocab);
}

}  // namespace

TrainSession::TrainSession(const TrainSettings& settings)
    : file_(ModelFile::open(checked(settings).model)),
      model_(std::make_unique<Gpt2>(model_options(file_, settings))),
      facts_{.settings = settings,
             .config = file_.config(),
             .hidden = model_->options().hidden,
             .mlp_rank = model_->options().mlp_rank,
             .dimensions = model_->dimensions(),
             .start = file_.record(),
             .parameters = model_->parameters().numbers(),
             .weights = model_->patterned_weights(),
             .train_tokens = 0,
             .val_tokens = 0,
             .train_batches = 0,
             .val_batches_used = 0,
             .train_fingerprint = 0,
             .val_fingerprint = 0,
             .memory = {},
             .memory_available = available_memory(device_of(settings.device)),
             .tokenizer = "",
             .state_root = settings.checkpoint.empty() ? "" : state_root(settings.checkpoint),
             .set_aside = "",
             .resumed = {}},
      changes_(settings.allow_changed, "--allow-changed ") {
  TrainSettings& s = facts_.settings;
  const Gpt2Config& config = facts_.config;
  s.fc1_bandwidth = model_->options().fc1_bandwidths;
  s.fc2_bandwidth = model_->options().fc2_bandwidths;
  if (!s.sequence_length) s.sequence_length = std::min<int64_t>(1024, config.max_seq_len);
  const int64_t B = s.batch_size, T = *s.sequence_length, V = config.vocab_size;
  if (T > config.max_seq_len) {
    throw UsageError(message("sequence length T = ", T,
                             " exceeds the model's maxT = ", config.max_seq_len,
                             "; give --sequence-length ", config.max_seq_len, " or less"));
  }
  require_batch_shape(B, T);
  s.device = name_of(device_of(s.device));
  if (s.threads == 0) s.threads = available_threads();
  if (!s.init_seed) {
    s.init_seed = file_.record().has_meta ? file_.record().init_seed : kDefaultInitSeed;
  }

  // What the log and the states say is what happens: without a band that pays, masks remain.
  const auto& entries = model_->parameters().entries();
  if (std::ranges::none_of(entries,
                           [](const Parameter& p) { return BandLayout::pays(p.pattern); })) {
    s.execution = name_of(Execution::mask);
  }
  Trainer::choose_storage(*model_, trainer_options());
  facts_.memory = Trainer::memory_needs(*model_, trainer_options());
  Trainer::check_memory(*model_, trainer_options(), facts_.memory_available);

  val_.emplace(s.val_data, B, T, V, 0);
  if (!s.test_data.empty()) test_.emplace(s.test_data, B, T, V, 0);
  const DataLoader train(s.train_data, B, T, V, static_cast<uint32_t>(s.data_seed));
  // Now, not when a run of hours comes to the token in question.
  train.shards().check_range(V);
  val_->shards().check_range(V);
  if (test_) test_->shards().check_range(V);

  facts_.train_tokens = train.tokens();
  facts_.train_batches = train.batches();
  facts_.val_tokens = val_->tokens();
  facts_.train_fingerprint = train.shards().fingerprint();
  facts_.val_fingerprint = val_->shards().fingerprint();
  facts_.val_batches_used = std::min(s.val_batches, val_->batches());
  if (s.steps < 0) {
    s.steps = train.batches() / s.accumulate;
    if (s.steps == 0) {
      throw UsageError(message("an epoch of ", s.train_data, " has ", train.batches(),
                               " batches, an update takes --accumulate ", s.accumulate,
                               "; accumulate less or give --steps"));
    }
  }

  facts_.tokenizer = tokenizer_of(s, V);
  if (!facts_.tokenizer.empty()) tokenizer_.emplace(open_tokenizer(facts_.tokenizer, V));
  if (s.checkpoint.empty()) return;
  lock_ = FileLock(lock_file(s.checkpoint), s.checkpoint);
  if (s.resume) choose_state(train.shards());
  // Makes the folders and proves that they can be written to.
  remove_leftovers(s.checkpoint);
  AtomicFile(s.checkpoint, true);
  if (facts_.resumed) {
    set_damaged_aside(facts_.state_root, facts_.resumed->step);
    delete_old_states(facts_.state_root, facts_.resumed->step);
  } else {
    facts_.set_aside = set_states_aside(facts_.state_root);
  }
  make_state_root(facts_.state_root);
}

TrainerOptions TrainSession::trainer_options() const {
  const TrainSettings& s = facts_.settings;
  return {.batch_size = s.batch_size,
          .sequence_length = *s.sequence_length,
          .accumulate = s.accumulate,
          .schedule = {.learning_rate = s.learning_rate,
                       .warmup = s.warmup,
                       .min_rate = s.min_lr,
                       .steps = s.steps},
          .adamw = {.weight_decay = s.weight_decay, .clip = s.grad_clip},
          .mask_init = s.mask_init,
          .execution = execution_of(s.execution),
          .precision = precision_of(s.precision),
          .data_seed = static_cast<uint32_t>(s.data_seed),
          .init_seed = s.init_seed,
          .threads = s.threads,
          .device = device_of(s.device),
          .model = gpt2_record(*model_, s.init_scale)};
}

}  // namespace pyllmc
