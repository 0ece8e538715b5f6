#include "train/trainer.h"

#include <algorithm>
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

Execution execution_of(const std::string& name) {
  if (name == "band") return Execution::band;
  if (name == "mask") return Execution::mask;
  throw UsageError(message("there is no execution called '", name, "': use band or mask"));
}

void Trainer::choose_storage(Model& model, const TrainerOptions& options) {
  if (options.execution == Execution::band && options.mask_init) model.parameters().store_bands();
}

std::vector<MemoryNeed> Trainer::memory_needs(Model& model, const TrainerOptions& options) {
  Context context;
  context.threads = options.threads;
  context.precision = options.precision;
  const ParameterTable& table = model.parameters();
  const int64_t buffer = table.floats() * static_cast<int64_t>(sizeof(float));
  std::vector<MemoryNeed> needs = {
      {"parameters", buffer}, {"gradients", buffer}, {"AdamW state", AdamW::state_bytes(table)}};
  for (MemoryNeed& need :
       model.plan(context, options.batch_size, options.sequence_length, Mode::train)) {
    needs.push_back(std::move(need));
  }
  const bool changes = std::ranges::any_of(table.entries(), [](const Parameter& p) {
    return p.count() != 0 && !p.band && BandLayout::pays(p.pattern);
  });
  if (changes && options.execution == Execution::band && !options.mask_init) {
    // After the first update the weights are there twice, until they are packed into bands. What is
    // allocated then takes its memory when it is written to, and by that time more has been freed.
    needs.push_back({"change to bands", buffer});
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
  context_.precision = options.precision;
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
  if (state_.step == 1) store_bands();
  return result;
}

// The change from whole weights to bands, if it has not been made. The optimizer's state and the
// plan of the workspace follow.
void Trainer::store_bands() {
  if (options_.execution != Execution::band || options_.mask_init) return;
  ParameterTable& table = model_->parameters();
  const int64_t before = table.floats();
  std::vector<int64_t> offsets;
  for (const Parameter& p : table.entries()) offsets.push_back(p.offset);
  table.store_bands();
  if (table.floats() == before) return;
  optimizer_.move_from(offsets);
  model_->prepare(context_, options_.batch_size, options_.sequence_length, Mode::train);
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
