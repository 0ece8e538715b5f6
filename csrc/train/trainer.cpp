#include "train/trainer.h"

#include <cmath>

namespace pyllmc {
namespace {

int64_t count_targets(const Batch& batch) {
  const Tokens targets = batch.get("targets");
  int64_t count = 0;
  for (int64_t i = 0; i < targets.numel(); ++i) count += targets.data()[i] >= 0;
  return count;
}

}  // namespace

std::vector<MemoryNeed> Trainer::memory_needs(Model& model, const TrainerOptions& options) {
  Context context;
  context.threads = options.threads;
  const ParameterTable& table = model.parameters();
  const int64_t buffer = table.floats() * static_cast<int64_t>(sizeof(float));
  std::vector<MemoryNeed> needs = {
      {"parameters", buffer}, {"gradients", buffer}, {"AdamW state", AdamW::state_bytes(table)}};
  for (MemoryNeed& need :
       model.plan(context, options.batch_size, options.sequence_length, Mode::train)) {
    needs.push_back(std::move(need));
  }
  return needs;
}

void Trainer::check_memory(Model& model, const TrainerOptions& options, int64_t available) {
  const int64_t needed = total_bytes(memory_needs(model, options));
  if (needed <= available) return;
  TrainerOptions smaller = options;
  while (smaller.batch_size > 1) {
    smaller.batch_size /= 2;
    if (total_bytes(memory_needs(model, smaller)) > available) continue;
    throw UsageError(message("this run needs ", bytes_text(needed), " of memory and ",
                             bytes_text(available), " are free; it would fit with --batch-size ",
                             smaller.batch_size, " --accumulate ",
                             options.accumulate * options.batch_size / smaller.batch_size));
  }
  throw UsageError(message("this run needs ", bytes_text(needed), " of memory and ",
                           bytes_text(available),
                           " are free; use a shorter sequence or a smaller model"));
}

Trainer::Trainer(std::unique_ptr<Model> model, const TrainerOptions& options,
                 const std::string& train_data)
    : model_(std::move(model)),
      options_(options),
      data_(train_data, options.batch_size, options.sequence_length, model_->vocab_size(),
            options.data_seed),
      optimizer_(model_->parameters(), options.adamw) {
  if (options.accumulate < 1) {
    throw UsageError(message("accumulate = ", options.accumulate, " is not possible: 1 or more"));
  }
  context_.threads = options.threads;
  model_->prepare(context_, options.batch_size, options.sequence_length, Mode::train);
  if (options.mask_init) model_->parameters().project();
}

int64_t Trainer::tokens_per_step() const {
  return options_.batch_size * options_.sequence_length * options_.accumulate;
}

StepResult Trainer::step() {
  const int64_t micro_steps = options_.accumulate;
  const auto batch_number = [&](int64_t micro_step) {
    return (state_.step * micro_steps + micro_step) * communicator_.size + communicator_.rank;
  };
  // The mean is over all targets of the update, so they are counted first; a batch is cheap to
  // read.
  int64_t targets = 0;
  for (int64_t i = 0; i < micro_steps; ++i) {
    targets += count_targets(data_.shuffled(batch_number(i)));
  }
  const float scale = targets ? 1.0f / static_cast<float>(targets) : 0.0f;

  model_->parameters().zero_gradients(context_);
  Loss loss;
  for (int64_t i = 0; i < micro_steps; ++i) {
    const Loss part = model_->loss_and_gradients(context_, data_.shuffled(batch_number(i)), scale);
    loss.sum += part.sum;
    loss.count += part.count;
  }
  state_.learning_rate = static_cast<float>(options_.schedule.at(state_.step));
  state_.not_finite = !std::isfinite(loss.sum);
  optimizer_.measure_gradients(context_, state_);
  optimizer_.update(context_, state_);
  if (state_.not_finite) {
    const bool loss_finite = std::isfinite(loss.sum);
    throw DivergedError(message("diverged at step ", state_.step, ": the ",
                                loss_finite ? "gradient norm" : "loss", " is ",
                                std::abs(loss_finite ? state_.gradient_norm : loss.mean()),
                                "; the update was not made; try a lower learning rate, warm-up or "
                                "gradient clipping"));
  }
  const StepResult result = {state_.step, loss.mean(), state_.learning_rate, state_.gradient_norm};
  ++state_.step;
  return result;
}

Loss Trainer::evaluate(DataLoader& data, int64_t max_batches) {
  Loss total;
  const int64_t batches = std::min(max_batches, data.batches());
  for (int64_t i = 0; i < batches; ++i) {
    const Loss loss = model_->loss(context_, data.sequential(i));
    total.sum += loss.sum;
    total.count += loss.count;
  }
  return total;
}

void Trainer::save(const std::string& path, int64_t init_seed) {
  require_finite_weights();
  model_->save(path, {.step = state_.step,
                      .init_seed = init_seed,
                      .data_seed = static_cast<int64_t>(options_.data_seed)});
}

}  // namespace pyllmc
