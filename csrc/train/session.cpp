#include "train/session.h"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "core/threads.h"
#include "formats/atomic_file.h"
#include "models/gpt2_checkpoint.h"
#include "train/sampler.h"

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

void require_seed(const char* name, int64_t seed) {
  if (seed < 0 || seed > UINT32_MAX) {
    throw UsageError(message(name, " is ", seed, ", it must be 0 to ", UINT32_MAX));
  }
}

// The settings, if they can work with any model and data.
const TrainSettings& checked(const TrainSettings& s) {
  require_at_least("--batch-size", s.batch_size, 1);
  require_at_least("--accumulate", s.accumulate, 1);
  require_at_least("--steps", std::max<int64_t>(s.steps, 0), 0);
  require_at_least("--fc1-bandwidth", s.fc1_bandwidth, 0);
  require_at_least("--fc2-bandwidth", s.fc2_bandwidth, 0);
  require_at_least("--val-every", s.val_every, 0);
  require_at_least("--val-batches", s.val_batches, 1);
  require_at_least("--sample-every", s.sample_every, 0);
  require_at_least("--sample-length", s.sample_length, 0);
  require_at_least("--checkpoint-every", s.checkpoint_every, 0);
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
  if (s.checkpoint_every > 0 && s.checkpoint.empty()) {
    throw UsageError("--checkpoint-every needs --checkpoint FILE to write to");
  }
  if (std::error_code error; !std::filesystem::exists(s.model, error)) {
    throw FormatError(message("there is no model ", s.model,
                              "; name one with --model or make one with 'pyllmc model init'"));
  }
  return s;
}

// Beside X_train.bin: X_tokenizer.bin, then gpt2_tokenizer.bin; then the working directory's.
std::string find_tokenizer(const TrainSettings& settings) {
  namespace fs = std::filesystem;
  if (!settings.tokenizer.empty()) return settings.tokenizer;
  const fs::path data(settings.train_data);
  const std::string name = data.filename().string();
  const size_t at = name.rfind("_train");
  std::vector<fs::path> candidates;
  if (at != std::string::npos) {
    candidates.push_back(data.parent_path() / (name.substr(0, at) + "_tokenizer.bin"));
  }
  candidates.push_back(data.parent_path() / "gpt2_tokenizer.bin");
  candidates.emplace_back("gpt2_tokenizer.bin");
  for (const fs::path& candidate : candidates) {
    std::error_code ignored;
    if (fs::exists(candidate, ignored)) return candidate.string();
  }
  return "";
}

}  // namespace

TrainSession::TrainSession(const TrainSettings& settings)
    : file_(ModelFile::open(checked(settings).model)),
      model_(std::make_unique<Gpt2>(Gpt2Options{.config = file_.config(),
                                                .fc1_bandwidths = {settings.fc1_bandwidth},
                                                .fc2_bandwidths = {settings.fc2_bandwidth},
                                                .hidden = file_.shape().hidden,
                                                .mlp_rank = file_.shape().mlp_rank})),
      facts_{.settings = settings,
             .config = file_.config(),
             .start = file_.record(),
             .parameters = model_->parameters().numbers(),
             .fc1 = model_->fc1_pattern(),
             .fc2 = model_->fc2_pattern(),
             .train_tokens = 0,
             .val_tokens = 0,
             .train_batches = 0,
             .val_batches_used = 0,
             .train_fingerprint = 0,
             .val_fingerprint = 0,
             .memory = {},
             .memory_available = available_memory(),
             .tokenizer = ""} {
  TrainSettings& s = facts_.settings;
  const Gpt2Config& config = facts_.config;
  if (!s.sequence_length) s.sequence_length = std::min<int64_t>(1024, config.max_seq_len);
  const int64_t B = s.batch_size, T = *s.sequence_length, V = config.vocab_size;
  if (T > config.max_seq_len) {
    throw UsageError(message("sequence length T = ", T,
                             " exceeds the model's maxT = ", config.max_seq_len,
                             "; give --sequence-length ", config.max_seq_len, " or less"));
  }
  if (B * T > INT32_MAX) {
    throw UsageError(message("a batch of B = ", B, " and T = ", T, " has ", B * T,
                             " tokens, at most ", INT32_MAX, " are possible; use --accumulate"));
  }
  if (s.threads == 0) s.threads = available_threads();
  if (!s.init_seed)
    s.init_seed = file_.record().has_meta ? file_.record().init_seed : kDefaultInitSeed;

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

  facts_.tokenizer = find_tokenizer(s);
  if (!facts_.tokenizer.empty()) {
    tokenizer_.emplace(Tokenizer::open(facts_.tokenizer));
    if (tokenizer_->vocab_size() != V) {
      if (!settings.tokenizer.empty()) {
        throw FormatError(message(facts_.tokenizer, " holds ", tokenizer_->vocab_size(),
                                  " tokens, the model's vocabulary has ", V,
                                  "; give the tokenizer of the training data"));
      }
      tokenizer_.reset();  // found by chance, made for another model
      facts_.tokenizer.clear();
    }
  }
  // Makes the folder and proves that it can be written to.
  if (!s.checkpoint.empty()) AtomicFile(s.checkpoint, true);
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
          .data_seed = static_cast<uint32_t>(s.data_seed),
          .threads = s.threads};
}

// Unconditional: from the end-of-text token, which is the vocabulary's last.
std::string TrainSession::sample_text(Trainer& trainer, int64_t step) const {
  const TrainSettings& s = facts_.settings;
  const int32_t start =
      tokenizer_ ? tokenizer_->eot() : static_cast<int32_t>(facts_.config.vocab_size - 1);
  std::string text;
  const SamplingOptions options = {.seed = static_cast<uint64_t>(*s.init_seed) +
                                           (static_cast<uint64_t>(step) << 32)};
  generate(trainer.model(), s.threads, std::span(&start, 1), s.sample_length - 1, options,
           [&](int32_t token) {
             if (tokenizer_) {
               text += tokenizer_->decode(token);
             } else {
               if (!text.empty()) text += ' ';
               text += std::to_string(token);
             }
           });
  return text;
}

EndStatus TrainSession::run(const std::vector<TrainObserver*>& observers,
                            const std::function<bool()>& stop_requested) {
  const TrainSettings& s = facts_.settings;
  const auto tell = [&](auto&& event) {
    for (TrainObserver* observer : observers) event(*observer);
  };
  tell([&](TrainObserver& o) { o.started(facts_); });
  model_->parameters().allocate(true);
  read_weights(*model_, file_);
  Trainer trainer(std::move(model_), trainer_options(), s.train_data);

  const auto save = [&] {
    if (s.checkpoint.empty()) return;
    trainer.save(s.checkpoint, *s.init_seed);
    tell([&](TrainObserver& o) { o.saved(trainer.steps_done(), s.checkpoint); });
  };
  const auto end = [&](EndStatus status) {
    tell([&](TrainObserver& o) { o.ended(trainer.steps_done(), status); });
    return status;
  };
  for (int64_t step = 0;; ++step) {
    const bool last = step == s.steps;
    if (last || (s.val_every > 0 ? step % s.val_every == 0 : step == 0)) {
      Loss loss = trainer.evaluate(*val_, s.val_batches);
      const bool finite = std::isfinite(loss.sum);
      if (!finite) loss.sum = std::abs(loss.sum);  // "-nan" would mean nothing
      tell([&](TrainObserver& o) { o.validated(step, loss); });
      if (!finite) {
        // The last update may be what broke the weights: they replace no checkpoint.
        end(EndStatus::diverged);
        throw DivergedError(message(
            "diverged at step ", step, ": the validation loss is ", loss.mean(),
            "; these weights were not saved; ",
            step == 0 ? "the weights of " + s.model + " are broken, start from another model"
                      : "try a lower learning rate, warm-up or gradient clipping"));
      }
    }
    if (s.sample_length > 1 &&
        (last || (step > 0 && s.sample_every > 0 && step % s.sample_every == 0))) {
      const std::string text = sample_text(trainer, step);
      tell([&](TrainObserver& o) { o.sampled(step, text); });
    }
    if (last) break;

    const auto begin = std::chrono::steady_clock::now();
    StepResult result{};
    try {
      result = trainer.step();
    } catch (const DivergedError&) {
      end(EndStatus::diverged);
      throw;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    tell([&](TrainObserver& o) { o.stepped(result, took.count(), trainer.tokens_per_step()); });
    const bool stop = stop_requested();
    if (stop ||
        (s.checkpoint_every > 0 && (step + 1) % s.checkpoint_every == 0 && step + 1 < s.steps)) {
      save();
    }
    if (stop) return end(EndStatus::interrupted);
  }
  save();
  if (test_) {
    const Loss loss = trainer.evaluate(*test_, test_->batches());
    tell([&](TrainObserver& o) { o.tested(trainer.steps_done(), loss); });
  }
  return end(EndStatus::done);
}

}  // namespace pyllmc
