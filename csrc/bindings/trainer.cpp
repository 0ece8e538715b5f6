// The trainer to Python: the same object that train_banded drives.
#include "train/trainer.h"

#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/bandwidths.h"
#include "bindings/bindings.h"
#include "core/require.h"
#include "models/gpt2_checkpoint.h"
#include "train/gpt2_record.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

std::unique_ptr<Trainer> make_trainer(
    const std::string& model_path, const std::string& train_data, int64_t batch_size,
    int64_t sequence_length, const Bandwidths& fc1_bandwidth, const Bandwidths& fc2_bandwidth,
    const std::string& pattern, int64_t mask_seed, bool scale_init, bool mask_init,
    double learning_rate, int64_t warmup, std::optional<double> min_lr, int64_t steps,
    double weight_decay, double grad_clip, int64_t accumulate, int64_t data_seed, int threads,
    const std::string& execution, const std::string& precision, const std::string& device) {
  require_seed("data_seed", data_seed);
  require_seed("mask_seed", mask_seed);
  const ModelFile file = ModelFile::open(model_path);
  Gpt2Options model_options = options_of(file);
  model_options.fc1_bandwidths = bandwidth_list(fc1_bandwidth);
  model_options.fc2_bandwidths = bandwidth_list(fc2_bandwidth);
  model_options.pattern = pattern_kind(pattern);
  model_options.mask_seed = static_cast<uint64_t>(mask_seed);
  auto model = std::make_unique<Gpt2>(model_options);
  const TrainerOptions options = {
      .batch_size = batch_size,
      .sequence_length = sequence_length,
      .accumulate = accumulate,
      .schedule = {.learning_rate = learning_rate,
                   .warmup = warmup,
                   .min_rate = min_lr,
                   .steps = steps},
      .adamw = {.weight_decay = weight_decay, .clip = grad_clip},
      .mask_init = mask_init,
      .execution = execution_of(execution),
      .precision = precision_of(precision),
      .data_seed = static_cast<uint32_t>(data_seed),
      .threads = threads,
      .device = device_of(device),
      .model = gpt2_record(*model, scale_init ? kInverseSqrtDensity : "none")};
  Trainer::choose_storage(*model, options);
  Trainer::check_memory(*model, options, available_memory(options.device));
  model->parameters().allocate(true, options.device);
  read_weights(*model, file);
  if (scale_init) model->scale_initial_weights();
  return std::make_unique<Trainer>(std::move(model), options, train_data);
}

int64_t resume(Trainer& trainer, const std::string& root, const std::string& allow_changed) {
  const NewestState newest = newest_state(root);
  if (!newest.state) {
    throw FormatError(message("there is no training state in ", root,
                              ", expected folders step_<N>; save_state() writes them"));
  }
  Changes changes(allow_changed);
  changes.compare(newest.state->manifest().at("configuration"),
                  Trainer::configuration(trainer.options(), trainer.data().shards()));
  changes.require_allowed(newest.state->folder());
  trainer.resume(*newest.state, changes);
  return trainer.steps_done();
}

py::dict slots_of(Trainer& trainer) {
  py::dict slots;
  for (const AdamW::Slot& slot : trainer.optimizer().slots()) {
    py::dict values;
    const ParameterTable& table = trainer.model().parameters();
    for (const Parameter& p : table.entries()) {
      values[py::str(p.name)] = logical_copy(table, p, slot.data() + p.offset);
    }
    slots[py::str(slot.name)] = values;
  }
  return slots;
}

}  // namespace

void bind_trainer(py::module_& m) {
  m.def(
      "training_order",
      [](std::vector<int64_t> shard_chunks, uint32_t seed, int64_t count) {
        DataOrder order(std::move(shard_chunks), seed);
        if (order.chunks_per_epoch() < 1) {
          throw UsageError(message("an epoch of ", order.chunks_per_epoch(),
                                   " chunks has no order: give shards of 1 or more"));
        }
        py::list places;
        for (int64_t i = 0; i < count; ++i) {
          const ChunkPlace place = order.shuffled(i);
          places.append(py::make_tuple(place.shard, place.chunk));
        }
        return places;
      },
      py::arg("shard_chunks"), py::arg("seed"), py::arg("count"),
      "The first `count` (shard, chunk) pairs of the training order.");

  py::class_<Trainer>(m, "Trainer", "Trains a GPT-2 checkpoint on token files.")
      .def(py::init(&make_trainer), py::arg("model"), py::arg("train_data"), py::kw_only(),
           py::arg("batch_size") = 4, py::arg("sequence_length") = 256,
           py::arg("fc1_bandwidth") = int64_t{0}, py::arg("fc2_bandwidth") = int64_t{0},
           py::arg("pattern") = "band", py::arg("mask_seed") = 1337, py::arg("scale_init") = false,
           py::arg("mask_init") = true, py::arg("learning_rate") = 3e-4, py::arg("warmup") = 0,
           py::arg("min_lr") = py::none(), py::arg("steps") = 0, py::arg("weight_decay") = 0.0,
           py::arg("grad_clip") = 0.0, py::arg("accumulate") = 1, py::arg("data_seed") = 42,
           py::arg("threads") = 1, py::arg("execution") = "band", py::arg("precision") = "fp32",
           py::arg("device") = "cpu")
      .def(
          "step",
          [](Trainer& self) {
            StepResult r{};
            {
              py::gil_scoped_release release;
              r = self.step();
            }
            py::dict result;
            result["step"] = r.step;
            result["loss"] = r.loss;
            result["lr"] = r.learning_rate;
            result["grad_norm"] = r.gradient_norm;
            return result;
          },
          "One update; {step, loss, lr, grad_norm}. Raises DivergedError before a bad update.")
      .def(
          "evaluate",
          [](Trainer& self, const std::string& data, int64_t max_batches) {
            const TrainerOptions& options = self.options();
            DataLoader loader(data, options.batch_size, options.sequence_length,
                              self.model().vocab_size(), 0);
            const Loss loss = self.evaluate(loader, max_batches);
            return py::make_tuple(loss.sum, loss.count);
          },
          py::arg("data"), py::arg("max_batches"),
          "(sum, count) over the first batches of token files, of the trainer's batch size.")
      .def("save", &Trainer::save, py::arg("path"), py::arg("init_seed") = 1337)
      .def(
          "save_state",
          [](Trainer& self, const std::string& path) { return self.save_state(path); },
          py::arg("path"),
          "Writes all that resume() needs into a new folder step_<N> under `path`, keeping it and "
          "the one before; returns its name. Raises WriteError, DivergedError.")
      .def("resume", &resume, py::arg("path"), py::arg("allow_changed") = "",
           "Continues from the newest state under `path` that can be read, as if there had been no "
           "stop; returns its step. `allow_changed` names settings that may differ, separated by "
           "commas. Raises FormatError when no state can be read, UsageError for other "
           "differences.")
      .def(
          "parameters",
          [](py::object self) {
            return parameter_list(self.cast<Trainer&>().model().parameters(), self);
          },
          "The parameter table, in order.")
      .def("optimizer_state", &slots_of, "{slot: {parameter: array}}, copies.");
}

}  // namespace pyllmc
