// Models to Python: views of parameters, loss and gradients, decoding, initial weights.
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings/arrays.h"
#include "bindings/bandwidths.h"
#include "bindings/bindings.h"
#include "core/device.h"
#include "core/require.h"
#include "core/threads.h"
#include "models/gpt2_checkpoint.h"
#include "train/batch_feed.h"
#include "train/machine.h"
#include "train/sampler.h"

namespace py = pybind11;

namespace pyllmc {

namespace {

using Path = std::filesystem::path;

// A model with what a call needs: its context, prepared for the last batch shape seen.
class PyModel {
 public:
  PyModel(std::unique_ptr<Gpt2> model, const RunRecord& run, bool gradients, int threads,
          Precision precision, Device device)
      : model_(std::move(model)), run_(run), gradients_(gradients), stream_(device) {
    context_.device = device;
    context_.stream = stream_.get();
    context_.threads = threads;
    context_.precision = precision;
    // For decoding on the CPU, for every product on a GPU.
    const bool decodes = precision == Precision::bf16 && !gradients;
    if (decodes || context_.activations() == DType::bf16) {
      model_->parameters().copy_to_bf16(context_);
    }
  }

  py::object loss(const py::object& inputs, const py::object& targets) {
    const Loss loss = measure(inputs, targets, nullptr);
    return py::make_tuple(loss.sum, loss.count);
  }

  // (sum, count, {name: gradient}) of scale * sum; gradients start from 0.
  py::object loss_and_gradients(const py::object& inputs, const py::object& targets, float scale) {
    const Loss loss = measure(inputs, targets, &scale);
    const ParameterTable& table = model_->parameters();
    py::dict gradients;
    for (const Parameter& p : table.entries()) {
      gradients[py::str(p.name)] = logical_copy(table, p, p.gradient.data());
    }
    return py::make_tuple(loss.sum, loss.count, gradients);
  }

  // Logits (n, V) after each of n tokens, by decoding with a cache.
  FloatArray logits(const py::object& tokens) {
    const IntArray array = token_ids(tokens, 0, model_->vocab_size());
    const Tokens ids = tokens_of(array);
    Context context = context_.decoding();
    const auto state = model_->start_decoding(context, ids.numel());
    FloatArray out = zeros({ids.numel(), model_->vocab_size()});
    for (int64_t i = 0; i < ids.numel(); ++i) {
      model_->decode(context, *state, ids.data()[i], out.mutable_data(i, 0));
    }
    return out;
  }

  std::vector<int32_t> generate(const std::vector<int32_t>& prompt, int64_t count,
                                double temperature, int64_t top_k, uint64_t seed) {
    std::vector<int32_t> tokens;
    pyllmc::generate(*model_, context_.decoding(), prompt, count,
                     {.temperature = temperature, .top_k = top_k, .seed = seed},
                     [&](int32_t token) { tokens.push_back(token); });
    return tokens;
  }

  void save(const Path& path, std::optional<int64_t> step) {
    RunRecord run = run_;
    if (step) run.step = *step;
    model_->save(path.string(), run);
  }

  Gpt2& model() { return *model_; }

 private:
  // What a call reads and writes in the device's memory.
  struct OnDevice {
    Loss loss;
    float scale;
  };

  // The loss, with gradients where there is a scale for them.
  Loss measure(const py::object& inputs, const py::object& targets, const float* scale) {
    const int64_t vocab = model_->vocab_size();
    const IntArray input_ids = token_ids(inputs, 0, vocab);
    const IntArray target_ids = token_ids(targets, INT32_MIN, vocab);
    Batch batch = prepare(input_ids, target_ids);
    ParameterTable& table = model_->parameters();
    OnDevice call = {{}, scale ? *scale : 0};
    OnDevice* at = &call;
    table.refresh(context_);
    if (feed_) {
      at = reinterpret_cast<OnDevice*>(memory_.get());
      feed_->fill(0, batch);
      feed_->send(context_, 0, 0);
      batch = feed_->batch(0);
      copy(context_, at, &call, sizeof call);
    }
    if (scale) {
      table.zero_gradients(context_);
      model_->loss_and_gradients(context_, batch, &at->scale, &at->loss);
    } else {
      model_->loss(context_, batch, &at->loss);
    }
    if (feed_) copy(context_, &call, at, sizeof call);
    synchronize(context_);
    return call.loss;
  }

  Batch prepare(const IntArray& inputs, const IntArray& targets) {
    if (inputs.ndim() != 2) throw UsageError("inputs must be (B, T)");
    const int64_t B = inputs.shape(0), T = inputs.shape(1);
    require_shape("model", "targets", tokens_of(targets), {B, T});
    if (B != B_ || T != T_) {
      B_ = T_ = 0;  // for as long as memory may turn out not to suffice
      model_->prepare(context_, B, T, gradients_ ? Mode::train : Mode::evaluate);
      if (context_.device != Device::cpu) {
        feed_.emplace(context_.device, B, T, model_->vocab_size(), 1, 1);
        memory_ = allocate(context_.device, sizeof(OnDevice), "a loss");
      }
      B_ = B;
      T_ = T;
    }
    Batch batch;
    batch.set("inputs", tokens_of(inputs));
    batch.set("targets", tokens_of(targets));
    return batch;
  }

  std::unique_ptr<Gpt2> model_;
  RunRecord run_;  // of the file
  bool gradients_;
  Stream stream_;
  Context context_;
  std::optional<BatchFeed> feed_;  // on a GPU only
  Memory memory_;                  // an OnDevice
  int64_t B_ = 0, T_ = 0;
};

Gpt2Init init_rule(const std::string& name) {
  if (name == "gpt2") return Gpt2Init::gpt2;
  if (name == "original") return Gpt2Init::original;
  throw UsageError(
      message("there is no initialization called '", name, "': use 'gpt2' or 'original'"));
}

Gpt2Config config_of(int64_t channels, int64_t layers, int64_t heads, int64_t context,
                     int64_t vocab) {
  constexpr int64_t kPadding = 128;
  return {.max_seq_len = context,
          .vocab_size = vocab,
          .num_layers = layers,
          .num_heads = heads,
          .channels = channels,
          .padded_vocab_size = ceil_div(vocab, kPadding) * kPadding};
}

}  // namespace

void bind_model(py::module_& m) {
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = PYLLMC_VERSION;
        info["compiler"] = __VERSION__;
        info["kernels"] = machine_of(Device::cpu, Precision::fp32).set;
        info["threads"] = available_threads();
        return info;
      },
      "What this build is and what it found on this machine.");

  m.def(
      "cuda_report",
      [] {
        const DeviceReport& report = cuda_report();
        py::dict facts;
        facts["library"] = report.found ? py::object(py::str(report.library)) : py::none();
        facts["usable"] = report.usable;
        if (!report.build.empty()) facts["build"] = report.build;
        if (!report.problem.empty()) facts["problem"] = report.problem;
        if (!report.gpu) return facts;
        facts["gpu"] = std::string(report.gpu->name);
        facts["capability"] = report.gpu->capability / 10.0;
        facts["multiprocessors"] = report.gpu->multiprocessors;
        facts["memory_total"] = report.gpu->memory_total;
        facts["memory_free"] = report.gpu->memory_free;
        facts["runtime"] = std::string(report.gpu->runtime);
        facts["blas"] = std::string(report.gpu->blas);
        return facts;
      },
      "What is known of the CUDA library and the GPU behind it; never raises.");

  m.def(
      "init_checkpoint",
      [](const Path& path, int64_t channels, int64_t layers, int64_t heads, int64_t context,
         int64_t vocab, const std::string& init, int64_t seed, int64_t hidden, int64_t mlp_rank) {
        require_seed("seed", seed);
        Gpt2 model({.config = config_of(channels, layers, heads, context, vocab),
                    .hidden = hidden,
                    .mlp_rank = mlp_rank,
                    .init = init_rule(init)});
        model.parameters().allocate(false);
        model.parameters().initialize(static_cast<uint64_t>(seed));
        model.save(path.string(), {.init_seed = seed});
      },
      py::arg("path"), py::arg("channels"), py::arg("layers"), py::arg("heads"), py::arg("context"),
      py::arg("vocab"), py::arg("init") = "gpt2", py::arg("seed") = 1337, py::arg("hidden") = 0,
      py::arg("mlp_rank") = 0,
      "Writes a model of initial weights; Vp is V rounded up to a multiple of 128, hidden 0 is "
      "4C,\n"
      "mlp_rank 0 means full matrices. init is 'gpt2' or 'original', seed that of the weights. No "
      "data\n"
      "was seen, and the data seed is written as 0. Raises UsageError, WriteError.");

  m.def(
      "sample_token",
      [](const FloatArray& logits, double temperature, int64_t top_k, double coin) {
        return sample_token({logits.data(), static_cast<size_t>(logits.size())},
                            {.temperature = temperature, .top_k = top_k}, coin);
      },
      py::arg("logits"), py::arg("temperature"), py::arg("top_k"), py::arg("coin"),
      "The id that a coin in [0, 1) picks from softmax(logits (V) / temperature), over the top_k\n"
      "likeliest (0 = all): the first whose cumulative probability exceeds it. Temperature 0 "
      "takes\n"
      "the likeliest. Raises UsageError without logits, or for an option below 0.");

  py::class_<PyModel>(m, "Model", "A GPT-2 with banded or dense MLP weights.")
      .def(py::init([](const Path& path, bool gradients, int threads,
                       const std::optional<Bandwidths>& fc1, const std::optional<Bandwidths>& fc2,
                       const std::optional<std::string>& pattern, std::optional<int64_t> mask_seed,
                       const std::string& precision, const std::string& device_name) {
             require_threads(threads);
             const Device device = device_of(device_name);
             const Precision products = precision_of(precision);
             require_precision(device, products);
             const ModelFile file = ModelFile::open(path.string());
             Gpt2Options options = options_of(file);
             if (fc1) options.fc1_bandwidths = bandwidth_list(*fc1);
             if (fc2) options.fc2_bandwidths = bandwidth_list(*fc2);
             if (pattern) options.pattern = pattern_kind(*pattern);
             if (mask_seed) {
               require_seed("mask_seed", *mask_seed);
               options.mask_seed = static_cast<uint64_t>(*mask_seed);
             }
             const bool as_described = !fc1 && !fc2 && !pattern && !mask_seed;
             auto model = as_described ? model_of(file) : std::make_unique<Gpt2>(options);
             model->parameters().allocate(gradients, device);
             read_weights(*model, file);
             return std::make_unique<PyModel>(std::move(model), run_of(file), gradients, threads,
                                              products, device);
           }),
           py::arg("path"), py::arg("gradients") = false, py::arg("threads") = 1,
           py::arg("fc1_bandwidth") = py::none(), py::arg("fc2_bandwidth") = py::none(),
           py::arg("pattern") = py::none(), py::arg("mask_seed") = py::none(),
           py::arg("precision") = "fp32", py::arg("device") = "cpu",
           "Reads a model file; bandwidths (one for all layers or a list), pattern and mask_seed "
           "are the\n"
           "file's unless given. gradients=True makes room for loss_and_gradients(). precision is "
           "that of\n"
           "products ('fp32', 'bf16', on a GPU also 'tf32'), device 'cpu', 'cuda' or 'auto'.\n"
           "Raises FormatError for a file that cannot be used, UsageError, DeviceError.")
      .def("save", &PyModel::save, py::arg("path"), py::arg("step") = py::none(),
           "Writes the weights to a model file. Step and seeds are those of the file that was "
           "opened,\n"
           "the step unless given. Raises WriteError.")
      .def(
          "scale_initial_weights", [](PyModel& self) { self.model().scale_initial_weights(); },
          "Multiplies each weight with a pattern by 1 / sqrt(density).")
      .def("loss", &PyModel::loss, py::arg("inputs"), py::arg("targets"),
           "(sum of losses in nats, count) over targets >= 0; inputs and targets are ids (B, T), "
           "whole numbers.\n"
           "Raises UsageError for other shapes and for ids outside the vocabulary.")
      .def("loss_and_gradients", &PyModel::loss_and_gradients, py::arg("inputs"),
           py::arg("targets"), py::arg("scale") = 1.0f,
           "loss()'s numbers and the gradients of scale * sum, by parameter name, each in the "
           "parameter's\n"
           "logical shape. The model must have been opened with gradients=True.")
      .def("logits", &PyModel::logits, py::arg("tokens"),
           "Next-token logits (n, V) after each of n tokens, by cached decoding.")
      .def("generate", &PyModel::generate, py::arg("prompt"), py::arg("count"),
           py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("seed") = 1337,
           "Up to `count` ids drawn after those of `prompt`, which needs one or more; as many as "
           "the model\n"
           "has positions for. Temperature 0 takes the likeliest always, top_k 0 draws from all; "
           "the same\n"
           "seed draws the same. Raises UsageError for a prompt that does not fit, DivergedError "
           "when\n"
           "logits are not finite.")
      .def(
          "parameters",
          [](py::object self) {
            return parameter_list(self.cast<PyModel&>().model().parameters(), self);
          },
          "The parameter table, in order.");
}

}  // namespace pyllmc
