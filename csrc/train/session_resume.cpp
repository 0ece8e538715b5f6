// Choosing the state that a session continues from.
#include <filesystem>

#include "core/text.h"
#include "train/run_progress.h"
#include "train/session.h"

namespace pyllmc {

JsonValue::Object TrainSession::run_configuration() const {
  const TrainSettings& s = facts_.settings;
  JsonValue test;
  if (test_) test = hex_text(test_->shards().fingerprint());
  return {{"val_every", s.val_every},
          {"val_batches", s.val_batches},
          {"train_eval_batches", s.train_eval_batches},
          {"sample_every", s.sample_every},
          {"sample_length", s.sample_length},
          {"init_seed", *s.init_seed},
          {"val_fingerprint", hex_text(facts_.val_fingerprint)},
          {"test_fingerprint", test}};
}

void TrainSession::choose_state(const TokenShards& train_data) {
  NewestState newest = newest_state(facts_.state_root);
  if (!newest.state) return;
  const StateReader& state = *newest.state;
  ResumeFacts resumed = {.folder = state.folder(),
                         .step = state.step(),
                         .progress = {},
                         .finished = false,
                         .changed = "",
                         .unreadable = std::move(newest.unreadable)};
  try {
    const JsonValue& run = state.manifest().at("run");
    changes_.compare(state.manifest().at("configuration"),
                     Trainer::configuration(trainer_options(), train_data));
    changes_.compare(run.at("configuration"), run_configuration());
    resumed.progress = read_progress(run);
  } catch (const FormatError& error) {
    throw FormatError(message(state.folder(), " is not the state of a run of train_banded: ",
                              error.what(), "; start anew without --resume"));
  }
  changes_.require_allowed(state.folder());
  const int64_t steps = facts_.settings.steps;
  if (state.step() > steps) {
    throw UsageError(message(state.folder(), " is of step ", state.step(), ", beyond --steps ",
                             steps, "; give more steps"));
  }
  resumed.changed = changes_.text();
  std::error_code error;
  resumed.finished = state.step() == steps && is_finished(facts_.state_root, steps) &&
                     std::filesystem::exists(facts_.settings.checkpoint, error);
  const bool logs = !facts_.settings.log.empty();
  if (changes_.allows("log")) {
    resumed.progress.log.reset();
  } else if (resumed.progress.log.has_value() != logs && !resumed.finished) {
    throw UsageError(message(state.folder(), " was saved by a run ", logs ? "without" : "with",
                             " a log; ", logs ? "drop" : "give",
                             " --log FILE, or accept a log with a gap by --allow-changed log"));
  }
  facts_.resumed = std::move(resumed);
  state_.emplace(std::move(*newest.state));
}

}  // namespace pyllmc
