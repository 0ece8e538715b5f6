// The trainer to Python: the same object that train_banded drives.
#include "train/trainer.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings/arrays.h"
#include "bindings/bandwidths.h"
#include "bindings/bindings.h"
#include "core/require.h"
#include "models/gpt2_checkpoint.h"
#include "models/gpt2_record.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

using Path = std::filesystem::path;

std::unique_ptr<Trainer> make_trainer(
    const Path& model_path, const Path& train_data, int64_t batch_size, int64_t sequence_length,
    const Bandwidths& fc1_bandwidth, const Bandwidths& fc2_bandwidth, const std::string& pattern,
    int64_t mask_seed, bool scale_init, bool mask_init, double learning_rate, int64_t warmup,
    std::optional<double> min_lr, int64_t steps, double weight_decay, double grad_clip,
    int64_t accumulate, int64_t data_seed, int threads, const std::string& execution,
    const std::string& precision, const std::string& device) {
  require_seed("data_seed", data_seed);
  require_seed("mask_seed", mask_seed);
  const ModelFile file = ModelFile::open(model_path.string());
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
      .init_seed = run_of(file).init_seed,
      .threads = threads,
      .device = device_of(device),
      .model = gpt2_record(*model, scale_init ? kInverseSqrtDensity : "none")};
  Trainer::choose_storage(*model, options);
  Trainer::check_memory(*model, options, available_memory(options.device));
  model->parameters().allocate(true, options.device);
  read_weights(*model, file);
  if (scale_init) model->scale_initial_weights();
  return std::make_unique<Trainer>(std::move(model), options, train_data.string());
}

int64_t resume(Trainer& trainer, const Path& root, const std::string& allow_changed) {
  const NewestState newest = newest_state(root.string());
  if (!newest.state) {
    throw FormatError(message("there is no training state in ", root.string(),
                              ", expected folders step_<N>; save_state() writes them"));
  }
  Changes changes(allow_changed, "allow_changed=");
  changes.compare(newest.state->manifest().at("configuration"),
                  Trainer::configuration(trainer.options(), trainer.data().shards()));
  changes.require_allowed(newest.state->folder());
  trainer.resume(*newest.state, changes);
  return trainer.steps_done();
}

std::vector<int32_t> sample(Trainer& trainer, const std::vector<int32_t>& prompt, int64_t count,
                            double temperature, int64_t top_k, uint64_t seed) {
  std::vector<int32_t> tokens;
  trainer.sample(prompt, count, {.temperature = temperature, .top_k = top_k, .seed = seed},
                 [&](int32_t token) { tokens.push_back(token); });
  return tokens;
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

  py::class_<Trainer>(m, "Trainer",
                      "Trains a GPT-2 on token files: the object that train_banded drives.")
      .def(py::init(&make_trainer), py::arg("model"), py::arg("train_data"), py::kw_only(),
           py::arg("batch_size") = 4, py::arg("sequence_length") = 256,
           py::arg("fc1_bandwidth") = int64_t{0}, py::arg("fc2_bandwidth") = int64_t{0},
           py::arg("pattern") = "band", py::arg("mask_seed") = 1337, py::arg("scale_init") = false,
           py::arg("mask_init") = true, py::arg("learning_rate") = 3e-4, py::arg("warmup") = 0,
           py::arg("min_lr") = py::none(), py::arg("steps") = 0, py::arg("weight_decay") = 0.0,
           py::arg("grad_clip") = 0.0, py::arg("accumulate") = 1, py::arg("data_seed") = 42,
           py::arg("threads") = 1, py::arg("execution") = "band", py::arg("precision") = "fp32",
           py::arg("device") = "cpu",
           "Reads the weights of a model file and opens the token files that train_data (a path or "
           "glob)\n"
           "names; nothing is computed yet.\n\n"
           "batch_size, sequence_length: a batch is B rows of T tokens, T at most the model's "
           "maxT.\n"
           "fc1_bandwidth, fc2_bandwidth: of the MLP's weights, on the hidden axis, 0 = dense; one "
           "for\n"
           "    all layers or a list of one each. The model file's are not taken over.\n"
           "pattern, mask_seed: where the kept entries lie; see Pattern.make().\n"
           "scale_init: multiplies weights with a pattern by 1 / sqrt(density) first.\n"
           "mask_init: False leaves them whole for the first step, whose update then masks them.\n"
           "learning_rate, warmup, min_lr, steps: AdamW's rate rises over `warmup` updates, then "
           "stays,\n"
           "    or with min_lr falls as a cosine to min_lr at update number `steps`.\n"
           "weight_decay: of matrices, embeddings included.\n"
           "grad_clip: the norm that the masked gradient is clipped to; 0 = off.\n"
           "accumulate: batches summed into one update.\n"
           "data_seed: of the order of the training data.\n"
           "threads: results do not depend on it.\n"
           "execution: 'band' stores and multiplies a band alone where that pays, 'mask' "
           "everything.\n"
           "precision: of the operands of products: 'fp32', 'bf16', on a GPU also 'tf32'.\n"
           "device: 'cpu', 'cuda', or 'auto': a GPU where there is one.\n\n"
           "Raises FormatError for a file that cannot be read or does not fit, UsageError for "
           "settings\n"
           "that cannot work or need more memory than is free, DeviceError without a GPU.")
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
          "Makes one update. Returns {'step': updates made before it, 'loss': mean over its tokens "
          "in\n"
          "nats, before it, 'lr': its learning rate, 'grad_norm': of the masked gradient, before\n"
          "clipping}. Raises DivergedError, and changes no weight, when loss or gradient is not "
          "finite.")
      .def(
          "evaluate",
          [](Trainer& self, const Path& data, int64_t max_batches) {
            const TrainerOptions& options = self.options();
            DataLoader loader(data.string(), options.batch_size, options.sequence_length,
                              self.model().vocab_size(), 0);
            const Loss loss = self.evaluate(loader, max_batches);
            return py::make_tuple(loss.sum, loss.count);
          },
          py::arg("data"), py::arg("max_batches"),
          "(sum of losses in nats, number of tokens) over the first max_batches batches of token "
          "files (a\n"
          "path or glob), in their order; the loss is their quotient. Raises FormatError.")
      .def("sample", &sample, py::arg("prompt"), py::arg("count"), py::arg("temperature") = 1.0,
           py::arg("top_k") = 0, py::arg("seed") = 1337,
           "Model.generate() with the weights as they are now.")
      .def(
          "save", [](Trainer& self, const Path& path) { self.save(path.string()); },
          py::arg("path"),
          "Writes the weights as a model file, with the updates made so far, the bandwidths, the\n"
          "data seed and the init seed that the trainer's model file records. Raises "
          "DivergedError\n"
          "when a weight is not finite, WriteError.")
      .def(
          "save_state",
          [](Trainer& self, const Path& path) { return self.save_state(path.string()); },
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
