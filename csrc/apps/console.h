// What train_banded prints while it runs: the settings table, a line a step, validations, samples.
#pragma once

#include "train/session.h"

namespace pyllmc {

class Console : public TrainObserver {
 public:
  void started(const TrainFacts& facts) override;
  void validated(int64_t step, const Loss& loss) override;
  void measured_train_subset(int64_t step, const Loss& loss) override;
  void stepped(const StepResult& result, double seconds, int64_t tokens) override;
  void sampled(int64_t step, const std::string& text) override;
  void saved(int64_t step, const std::string& path) override;
  void tested(int64_t step, const Loss& loss) override;
  void ended(int64_t step, EndStatus status) override;

 private:
  int64_t steps_ = 0;
  int64_t first_step_ = 0;
  std::string state_root_;
  int64_t parameters_ = 0;
  int64_t timed_steps_ = 0;  // all but the first, which warms up
  double timed_seconds_ = 0;
};

}  // namespace pyllmc
