// Saving and resuming a Trainer.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/build.h"
#include "core/text.h"
#include "formats/crc32.h"
#include "train/machine.h"
#include "train/trainer.h"

namespace pyllmc {
namespace {

constexpr char kWeights[] = "weights";

// One entry a parameter: the order and shapes in which every tensor of a state holds them.
JsonValue::List parameter_list(const ParameterTable& table) {
  JsonValue::List list;
  for (const Parameter& p : table.entries()) {
    list.push_back(JsonValue::Object{{"name", p.name},
                                     {"rows", p.rows},
                                     {"cols", p.cols},
                                     {"pattern", p.pattern.text()},
                                     {"kept", p.pattern.kept()}});
  }
  return list;
}

void require_same_parameters(const StateReader& state, const ParameterTable& table) {
  const JsonValue::List now = parameter_list(table);
  const JsonValue::List& then = state.manifest().at("parameters").list();
  for (size_t i = 0; i < std::max(now.size(), then.size()); ++i) {
    const std::string before = i < then.size() ? then[i].text() : "none";
    const std::string wanted = i < now.size() ? now[i].text() : "none";
    if (before == wanted) continue;
    throw FormatError(message(state.folder(), " is of another model: parameter ", i, " is ", before,
                              ", expected ", wanted));
  }
}

}  // namespace

JsonValue::Object Trainer::configuration(const TrainerOptions& o, const TokenShards& data) {
  const Machine machine = machine_of(o.device, o.precision);
  JsonValue::Object all = o.model;
  const JsonValue::Object own = {
      {"batch_size", o.batch_size},
      {"sequence_length", o.sequence_length},
      {"accumulate", o.accumulate},
      {"learning_rate", o.schedule.learning_rate},
      {"warmup", o.schedule.warmup},
      {"min_lr", o.schedule.min_rate ? JsonValue(*o.schedule.min_rate) : JsonValue()},
      {"steps", o.schedule.steps},
      {"beta1", o.adamw.beta1},
      {"beta2", o.adamw.beta2},
      {"epsilon", o.adamw.epsilon},
      {"weight_decay", o.adamw.weight_decay},
      {"grad_clip", o.adamw.clip},
      {"mask_init", o.mask_init},
      {"execution", name_of(o.execution)},
      {"precision", name_of(o.precision)},
      {"data_seed", static_cast<int64_t>(o.data_seed)},
      {"train_fingerprint", hex_text(data.fingerprint())},
      {"train_tokens", data.total_tokens()},
      {"instruction_set", machine.set},
      {"build", build_id()}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

JsonValue::Object Trainer::loader_position() {
  const int64_t batch = state_.step * options_.accumulate * communicator_.size;
  const DataLoader::Position next = data_.position(batch);
  return {{"batch", batch},
          {"epoch", next.epoch},
          {"shard", next.place.shard},
          {"chunk", next.place.chunk},
          {"permutation", crc32_text(next.permutation)}};
}

void Trainer::require_finite_weights() const {
  const ParameterTable& table = model_->parameters();
  std::vector<float> logical;
  for (const Parameter& p : table.entries()) {
    logical.resize(static_cast<size_t>(p.numel()));
    table.read(p, p.value.data(), logical.data());
    if (std::ranges::all_of(logical, [](float x) { return std::isfinite(x); })) continue;
    throw DivergedError(message("diverged at step ", state_.step, ": ", p.name,
                                " has a weight that is not finite; these weights were not saved; "
                                "try a lower learning rate, warm-up or gradient clipping"));
  }
}

std::string Trainer::save_state(const std::string& root, JsonValue::Object run) {
  require_finite_weights();
  StateWriter writer(root, state_.step);
  std::vector<float> logical;
  const auto write = [&](const std::string& tensor, auto&& stored) {
    writer.begin_tensor(tensor);
    for (const Parameter& p : model_->parameters().entries()) {
      logical.resize(static_cast<size_t>(p.numel()));
      model_->parameters().read(p, stored(p), logical.data());
      writer.write(logical);
    }
  };
  write(kWeights, [](const Parameter& p) { return p.value.data(); });
  for (const AdamW::Slot& slot : optimizer_.slots()) {
    write(slot.name, [&](const Parameter& p) { return slot.data() + p.offset; });
  }
  return writer.commit({{"configuration", configuration(options_, data_.shards())},
                        {"loader", loader_position()},
                        {"run", std::move(run)},
                        {"parameters", parameter_list(model_->parameters())}});
}

void Trainer::resume(const StateReader& state, const Changes& changes) {
  require_same_parameters(state, model_->parameters());
  state_ = {.step = state.step()};
  if (state_.step > 0) store_bands();
  const bool same_order =
      std::ranges::none_of(std::array{"batch_size", "sequence_length", "accumulate", "data_seed",
                                      "train_fingerprint", "train_tokens"},
                           [&](const char* setting) { return changes.differs(setting); });
  const std::string recorded = state.manifest().at("loader").text();
  const std::string position = JsonValue(loader_position()).text();
  if (same_order && recorded != position) {
    throw FormatError(message(state.folder(), " says that the data goes on at ", recorded,
                              ", step ", state_.step, " of this order goes on at ", position,
                              "; the state is damaged"));
  }
  std::vector<float> logical;
  const auto read = [&](const std::string& tensor, auto&& stored) {
    int64_t at = 0;
    for (Parameter& p : model_->parameters().entries()) {
      logical.resize(static_cast<size_t>(p.numel()));
      state.read(tensor, logical.data(), p.numel(), at);
      model_->parameters().write(p, logical.data(), stored(p));
      at += p.numel();
    }
    if (at != state.count(tensor)) {
      throw FormatError(message(state.folder(), " has ", state.count(tensor), " numbers of tensor ",
                                tensor, ", this model has ", at));
    }
  };
  read(kWeights, [](Parameter& p) { return p.value.data(); });
  for (const AdamW::Slot& slot : optimizer_.slots()) {
    read(slot.name, [&](Parameter& p) { return slot.data() + p.offset; });
  }
}

}  // namespace pyllmc
