// The loop of a session: validate, sample, step, save.
#include <chrono>
#include <cmath>

#include "formats/fault.h"
#include "models/gpt2_checkpoint.h"
#include "models/gpt2_record.h"
#include "train/run_progress.h"
#include "train/session.h"

namespace pyllmc {

class TrainSession::Run {
 public:
  Run(TrainSession& session, Trainer& trainer, const std::vector<TrainObserver*>& observers,
      const std::function<bool()>& stop_requested)
      : session_(session),
        facts_(session.facts_),
        s_(session.facts_.settings),
        trainer_(trainer),
        observers_(observers),
        stop_requested_(stop_requested) {
    if (!facts_.resumed) return;
    progress_ = facts_.resumed->progress;
    at_last_state_ = facts_.resumed->step == s_.steps && progress_.evaluated;
    last_state_ = facts_.resumed->folder;
  }

  EndStatus to_the_end() {
    try {
      while (true) {
        if (!progress_.evaluated) evaluate();
        if (step() == s_.steps) break;
        if (stop_requested_()) return interrupt();
        update();
        const bool due =
            s_.checkpoint_every > 0 && step() % s_.checkpoint_every == 0 && step() < s_.steps;
        if (due) save(true);
        if (stop_requested_()) return due ? end(EndStatus::interrupted) : interrupt();
      }
      if (at_last_state_) {
        trainer_.save(s_.checkpoint);  // which may have been deleted
      } else {
        save(true);
      }
    } catch (const DivergedError& error) {
      end(EndStatus::diverged);
      throw DivergedError(message(
          error.what(), last_state_.empty() ? "" : "; the last good state is ", last_state_));
    }
    if (session_.test_) {
      if (stop_requested_()) return end(EndStatus::interrupted);
      const Loss loss = trainer_.evaluate(*session_.test_, session_.test_->batches());
      tell([&](TrainObserver& o) { o.tested(step(), loss); });
    }
    fault_point(FaultPoint::run_ended);
    end(EndStatus::done);
    sync();
    fault_point(FaultPoint::run_end_logged);
    if (!s_.checkpoint.empty()) mark_finished(facts_.state_root, step());
    return EndStatus::done;
  }

 private:
  template <class Event>
  void tell(const Event& event) {
    for (TrainObserver* observer : observers_) event(*observer);
  }

  int64_t step() const { return trainer_.steps_done(); }

  bool due(int64_t every, bool at_start) const {
    if (step() == s_.steps) return true;
    return every > 0 && step() > 0 ? step() % every == 0 : at_start && step() == 0;
  }

  void evaluate() {
    if (due(s_.val_every, true)) {
      Loss loss = trainer_.evaluate(*session_.val_, s_.val_batches);
      const bool finite = std::isfinite(loss.sum);
      if (!finite) loss.sum = std::abs(loss.sum);  // "-nan" would mean nothing
      tell([&](TrainObserver& o) { o.validated(step(), loss); });
      if (!finite) {
        // The last update may be what broke the weights: they replace no checkpoint.
        throw DivergedError(message(
            "diverged at step ", step(), ": the validation loss is ", loss.mean(),
            "; these weights were not saved; ",
            step() == 0 ? "the weights of " + s_.model + " are broken, start from another model"
                        : "try a lower learning rate, warm-up or gradient clipping"));
      }
      if (!progress_.best || loss.mean() < progress_.best->loss) {
        progress_.best = {loss.mean(), step()};
      }
      if (s_.train_eval_batches > 0) {
        const Loss subset = trainer_.evaluate_training_data(s_.train_eval_batches);
        tell([&](TrainObserver& o) { o.measured_train_subset(step(), subset); });
      }
    }
    if (s_.sample_length > 1 && due(s_.sample_every, false)) {
      const std::string text = session_.sample_text(trainer_, step());
      tell([&](TrainObserver& o) { o.sampled(step(), text); });
    }
    progress_.evaluated = true;
  }

  void update() {
    const auto begin = std::chrono::steady_clock::now();
    const StepResult result = trainer_.step();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    progress_.evaluated = false;
    tell([&](TrainObserver& o) { o.stepped(result, took.count(), trainer_.tokens_per_step()); });
    fault_point(FaultPoint::update_made);
  }

  // A state's log ends with what an unbroken run would have told by then. So the line about this
  // checkpoint belongs to it when the checkpoint was due, and not when a signal asked for it.
  void save(bool was_due) {
    if (s_.checkpoint.empty()) return;
    trainer_.save(s_.checkpoint);
    const auto saved = [&](TrainObserver& o) { o.saved(step(), s_.checkpoint); };
    if (was_due) tell(saved);
    sync();
    fault_point(FaultPoint::checkpoint_logged);
    last_state_ = trainer_.save_state(facts_.state_root,
                                      progress_entry(progress_, session_.run_configuration()));
    if (!was_due) tell(saved);
  }

  void sync() {
    progress_.log.reset();
    tell([&](TrainObserver& o) {
      if (const auto position = o.sync()) progress_.log = position;
    });
  }

  EndStatus interrupt() {
    save(false);
    return end(EndStatus::interrupted);
  }

  EndStatus end(EndStatus status) {
    tell([&](TrainObserver& o) { o.ended(step(), status); });
    return status;
  }

  TrainSession& session_;
  const TrainFacts& facts_;
  const TrainSettings& s_;
  Trainer& trainer_;
  const std::vector<TrainObserver*>& observers_;
  const std::function<bool()>& stop_requested_;
  RunProgress progress_;
  std::string last_state_;
  bool at_last_state_ = false;  // resumed from the state that a run's last step leaves
};

// Unconditional: from the tokenizer's end-of-text token; without a tokenizer from the vocabulary's
// last id.
std::string TrainSession::sample_text(Trainer& trainer, int64_t step) const {
  const TrainSettings& s = facts_.settings;
  const int32_t start =
      tokenizer_ ? tokenizer_->eot() : static_cast<int32_t>(trainer.model().vocab_size() - 1);
  std::string text;
  const SamplingOptions options = {.seed = static_cast<uint64_t>(*s.init_seed) +
                                           (static_cast<uint64_t>(step) << 32)};
  trainer.sample(std::span(&start, 1), s.sample_length - 1, options, [&](int32_t token) {
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
  if (facts_.resumed && facts_.resumed->finished) return EndStatus::done;
  for (TrainObserver* observer : observers) observer->started(facts_);
  model_->parameters().allocate(true, device_of(facts_.settings.device));
  if (!state_) {
    read_weights(*model_, file_);
    if (facts_.settings.init_scale == kInverseSqrtDensity) model_->scale_initial_weights();
  }
  const TrainerOptions options = trainer_options();
  Trainer trainer(std::move(model_), options, facts_.settings.train_data);
  if (state_) {
    trainer.resume(*state_, changes_);
    state_.reset();
  }
  return Run(*this, trainer, observers, stop_requested).to_the_end();
}

}  // namespace pyllmc
