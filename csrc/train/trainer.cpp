#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/require.h"

namespace pyllmc {
namespace {

constexpr int64_t kEvaluationEntries = 8;  // batches under way to a GPU at once

// The options, if they can work with any model and data.
const TrainerOptions& checked(const TrainerOptions& options) {
  require_between("accumulate", options.accumulate, 1, INT32_MAX);
  require_threads(options.threads);
  require_precision(options.device, options.precision);
  return options;
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
  context.device = checked(options).device;
  context.threads = options.threads;
  context.precision = options.precision;
  const ParameterTable& table = model.parameters();
  const bool copies = context.activations() == DType::bf16;
  const int64_t buffer = table.buffer_bytes(false, false);
  std::vector<MemoryNeed> needs = {{"parameters", table.buffer_bytes(false, copies)},
                                   {"gradients", buffer},
                                   {"AdamW state", AdamW::state_bytes(table)}};
  for (MemoryNeed& need :
       model.plan(context, options.batch_size, options.sequence_length, Mode::train)) {
    needs.push_back(std::move(need));
  }
  const bool changes = std::ranges::any_of(
      table.entries(), [](const Parameter& p) { return !p.band && BandLayout::pays(p.pattern); });
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
  const char* where = options.device == Device::cuda ? "the GPU's memory" : "memory";
  TrainerOptions smaller = options;
  while (smaller.batch_size > 1) {
    smaller.batch_size /= 2;
    if (total_bytes(memory_needs(model, smaller)) > available) continue;
    throw UsageError(message("this run needs ", bytes_text(needed), " of ", where, " and ",
                             bytes_text(available), " are free; it would fit with batch size ",
                             smaller.batch_size, " and accumulate ",
                             options.accumulate * options.batch_size / smaller.batch_size));
  }
  throw UsageError(message("this run needs ", bytes_text(needed), " of ", where, " and ",
                           bytes_text(available),
                           " are free; use a shorter sequence or a smaller model"));
}

Trainer::Trainer(std::unique_ptr<Model> model, const TrainerOptions& options,
                 const std::string& train_data)
    : model_(std::move(model)),
      options_(checked(options)),
      stream_(options.device),
      data_(train_data, options.batch_size, options.sequence_length, model_->vocab_size(),
            options.data_seed),
      optimizer_(model_->parameters(), options.adamw) {
  context_.device = options.device;
  context_.stream = stream_.get();
  context_.threads = options.threads;
  context_.precision = options.precision;
  if (options.mask_init) model_->parameters().project();
  prepare();
  if (options.device == Device::cpu) return;
  const auto feed = [&](int64_t entries, int64_t slots) {
    return BatchFeed(options.device, options.batch_size, options.sequence_length,
                     model_->vocab_size(), entries, slots);
  };
  feed_.emplace(feed(2 * options.accumulate, options.accumulate));
  evaluation_feed_.emplace(feed(kEvaluationEntries, 1));
  device_memory_ = allocate(options.device, sizeof(OnDevice), "the state of a step");
  host_memory_ = allocate_host(options.device, sizeof(OnDevice), "the state of a step");
}

// After the weights moved: what depends on their addresses.
void Trainer::prepare() {
  step_graph_.reset();
  evaluation_graph_.reset();
  model_->prepare(context_, options_.batch_size, options_.sequence_length, Mode::train);
  if (context_.activations() == DType::bf16) model_->parameters().copy_to_bf16(context_);
}

int64_t Trainer::tokens_per_step() const {
  return options_.batch_size * options_.sequence_length * options_.accumulate;
}

int64_t Trainer::batch_number(int64_t step, int64_t micro_step) const {
  return (step * options_.accumulate + micro_step) * communicator_.size + communicator_.rank;
}

// Reads the batches of a step into the host's entries, of which neighbouring steps use different
// ones: the next step's are read while a GPU computes.
void Trainer::stage(int64_t step) {
  if (staged_step_ == step) return;
  staged_step_ = -1;
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    feed_->fill(step % 2 * options_.accumulate + i, data_.shuffled(batch_number(step, i)));
  }
  staged_step_ = step;
}

// All that a step computes; on a GPU it is only enqueued.
void Trainer::run_update(StepState* state) {
  model_->parameters().zero_gradients(context_);
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const Batch batch = feed_ ? feed_->batch(i) : data_.shuffled(batch_number(state_.step, i));
    model_->loss_and_gradients(context_, batch, &state->loss_scale, &state->loss);
  }
  optimizer_.measure_gradients(context_, state);
  optimizer_.update(context_, state);
}

StepResult Trainer::step() {
  model_->parameters().refresh(context_);
  if (feed_) stage(state_.step);
  // The mean is over all targets of the update. A token file has no ignored ones, so their number
  // is B T accumulate.
  state_ = {.step = state_.step,
            .learning_rate = static_cast<float>(options_.schedule.at(state_.step)),
            .loss_scale = 1.0f / static_cast<float>(tokens_per_step())};
  optimizer_.correct_bias(state_);
  if (feed_) {
    auto* host = &reinterpret_cast<OnDevice*>(host_memory_.get())->state;
    auto* device = &reinterpret_cast<OnDevice*>(device_memory_.get())->state;
    *host = state_;
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      feed_->send(context_, state_.step % 2 * options_.accumulate + i, i);
    }
    copy(context_, device, host, sizeof(StepState));
    step_graph_.run(context_, [&] { run_update(device); });
    copy(context_, host, device, sizeof(StepState));
    stage(state_.step + 1);
    synchronize(context_);
    state_ = *host;
  } else {
    run_update(&state_);
  }
  if (state_.not_finite) {
    const bool loss_finite = std::isfinite(state_.loss.sum);
    throw DivergedError(message("diverged at step ", state_.step, ": the ",
                                loss_finite ? "gradient norm" : "loss", " is ",
                                std::abs(loss_finite ? state_.gradient_norm : state_.loss.mean()),
                                "; the update was not made; try a lower learning rate, warm-up or "
                                "gradient clipping"));
  }
  const StepResult result = {state_.step, state_.loss.mean(), state_.learning_rate,
                             state_.gradient_norm};
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
  prepare();
}

Loss Trainer::evaluate(DataLoader& data, int64_t max_batches) {
  model_->parameters().refresh(context_);
  const int64_t batches = std::min(max_batches, data.batches());
  if (!feed_) {
    Loss total;
    for (int64_t i = 0; i < batches; ++i) model_->loss(context_, data.sequential(i), &total);
    return total;
  }
  auto* host = &reinterpret_cast<OnDevice*>(host_memory_.get())->evaluation;
  auto* total = &reinterpret_cast<OnDevice*>(device_memory_.get())->evaluation;
  zero(context_, total, sizeof(Loss));
  for (int64_t i = 0; i < batches; ++i) {
    const int64_t entry = i % kEvaluationEntries;
    if (i > 0 && entry == 0) synchronize(context_);
    evaluation_feed_->fill(entry, data.sequential(i));
    evaluation_feed_->send(context_, entry, 0);
    evaluation_graph_.run(context_,
                          [&] { model_->loss(context_, evaluation_feed_->batch(0), total); });
  }
  copy(context_, host, total, sizeof(Loss));
  synchronize(context_);
  return *host;
}

int64_t Trainer::sample(std::span<const int32_t> prompt, int64_t count,
                        const SamplingOptions& options, const std::function<void(int32_t)>& emit) {
  model_->parameters().refresh(context_);
  return generate(*model_, context_.decoding(), prompt, count, options, emit);
}

void Trainer::save(const std::string& path) {
  require_finite_weights();
  model_->save(path, {.step = state_.step,
                      .init_seed = options_.init_seed,
                      .data_seed = static_cast<int64_t>(options_.data_seed)});
}

}  // namespace pyllmc
