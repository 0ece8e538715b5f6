// Models to Python: views of parameters, loss and gradients, decoding, initial weights.
#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/bandwidths.h"
#include "bindings/bindings.h"
#include "core/gemm.h"
#include "core/threads.h"
#include "models/gpt2_checkpoint.h"
#include "train/sampler.h"

namespace py = pybind11;

namespace pyllmc {

py::object parameter_view(Parameter& p, py::handle owner) {
  std::vector<py::ssize_t> shape;
  for (int i = 0; i < p.value.rank(); ++i) shape.push_back(p.value.dim(i));
  return py::array_t<float>(shape, p.value.data(), owner);
}

FloatArray logical_copy(const Parameter& p, const float* stored) {
  FloatArray array = p.is_matrix ? zeros({p.rows, p.cols}) : zeros({p.cols});
  p.unpack(stored, array.mutable_data());
  return array;
}

void assign_parameter(Parameter& p, const FloatArray& values) {
  const ConstTensor source = tensor_of(values);
  const FloatArray logical = p.is_matrix ? zeros({p.rows, p.cols}) : zeros({p.cols});
  const std::string expected = tensor_of(logical).shape_text();
  if (source.shape_text() != expected) {
    throw UsageError(
        message(p.name, " has shape ", expected, ", the array has ", source.shape_text()));
  }
  p.pack(source.data(), p.value.data());
  p.project(p.value.data());
}

namespace {

// A model with what a call needs: its context, prepared for the last batch shape seen.
class PyModel {
 public:
  PyModel(std::unique_ptr<Gpt2> model, bool gradients, int threads, Precision precision)
      : model_(std::move(model)), gradients_(gradients) {
    context_.threads = threads;
    context_.precision = precision;
  }

  py::object loss(const IntArray& inputs, const IntArray& targets) {
    const Batch batch = prepare(inputs, targets);
    const Loss loss = model_->loss(context_, batch);
    return py::make_tuple(loss.sum, loss.count);
  }

  // (sum, count, {name: gradient}) of scale * sum; gradients start from 0.
  py::object loss_and_gradients(const IntArray& inputs, const IntArray& targets, float scale) {
    const Batch batch = prepare(inputs, targets);
    model_->parameters().zero_gradients(context_);
    const Loss loss = model_->loss_and_gradients(context_, batch, scale);
    py::dict gradients;
    for (const Parameter& p : model_->parameters().entries()) {
      gradients[py::str(p.name)] = logical_copy(p, p.gradient.data());
    }
    return py::make_tuple(loss.sum, loss.count, gradients);
  }

  // Logits (n, V) after each of n tokens, by decoding with a cache.
  FloatArray logits(const IntArray& tokens) {
    const Tokens ids = tokens_of(tokens);
    Context context;
    context.threads = context_.threads;
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
    pyllmc::generate(*model_, context_.threads, prompt, count,
                     {.temperature = temperature, .top_k = top_k, .seed = seed},
                     [&](int32_t token) { tokens.push_back(token); });
    return tokens;
  }

  Gpt2& model() { return *model_; }

 private:
  Batch prepare(const IntArray& inputs, const IntArray& targets) {
    if (inputs.ndim() != 2) throw UsageError("inputs must be (B, T)");
    const int64_t B = inputs.shape(0), T = inputs.shape(1);
    for (const int32_t* id = inputs.data(); id < inputs.data() + inputs.size(); ++id) {
      if (*id < 0 || *id >= model_->vocab_size()) {
        throw UsageError(
            message("token ", *id, " is not in the vocabulary of ", model_->vocab_size()));
      }
    }
    if (B != B_ || T != T_) {
      model_->prepare(context_, B, T, gradients_ ? Mode::train : Mode::evaluate);
      B_ = B;
      T_ = T;
    }
    Batch batch;
    batch.set("inputs", tokens_of(inputs));
    batch.set("targets", tokens_of(targets));
    return batch;
  }

  std::unique_ptr<Gpt2> model_;
  bool gradients_;
  Context context_;
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
        const GemmLibrary& library = gemm_library();
        py::dict info;
        info["version"] = PYLLMC_VERSION;
        info["compiler"] = __VERSION__;
        info["gemm"] = library.name;
        info["gemm_core"] = library.core;
        info["gemm_path"] = library.path;
        info["threads"] = available_threads();
        return info;
      },
      "What this build is and what it found on this machine.");

  m.def(
      "init_checkpoint",
      [](const std::string& path, int64_t channels, int64_t layers, int64_t heads, int64_t context,
         int64_t vocab, const std::string& init, int64_t seed, int64_t hidden, int64_t mlp_rank) {
        Gpt2 model({.config = config_of(channels, layers, heads, context, vocab),
                    .hidden = hidden,
                    .mlp_rank = mlp_rank,
                    .init = init_rule(init)});
        if (seed < 0 || seed > UINT32_MAX) {
          throw UsageError(message("seed ", seed, " is not possible: 0 to ", UINT32_MAX));
        }
        model.parameters().allocate(false);
        model.parameters().initialize(static_cast<uint64_t>(seed));
        model.save(path, {.init_seed = seed});
      },
      py::arg("path"), py::arg("channels"), py::arg("layers"), py::arg("heads"), py::arg("context"),
      py::arg("vocab"), py::arg("init") = "gpt2", py::arg("seed") = 1337, py::arg("hidden") = 0,
      py::arg("mlp_rank") = 0,
      "Writes a model of initial weights; Vp is V rounded up to a multiple of 128, hidden 0 is "
      "4C,\n"
      "mlp_rank 0 means full matrices.");

  m.def(
      "sample_token",
      [](const FloatArray& logits, double temperature, int64_t top_k, double coin) {
        return sample_token({logits.data(), static_cast<size_t>(logits.size())},
                            {.temperature = temperature, .top_k = top_k}, coin);
      },
      py::arg("logits"), py::arg("temperature"), py::arg("top_k"), py::arg("coin"));

  py::class_<Parameter>(m, "Parameter", "One entry of a model's parameter table.")
      .def_readonly("name", &Parameter::name)
      .def_property_readonly("shape",
                             [](const Parameter& p) -> py::tuple {
                               if (p.is_matrix) return py::make_tuple(p.rows, p.cols);
                               return py::make_tuple(p.cols);
                             })
      .def_readonly("pattern", &Parameter::pattern)
      .def(
          "packed", [](py::object self) { return parameter_view(self.cast<Parameter&>(), self); },
          "The stored values; shares memory with the model.")
      .def(
          "dense", [](const Parameter& p) { return logical_copy(p, p.value.data()); },
          "A copy with the logical shape.")
      .def("assign", &assign_parameter, py::arg("values"),
           "Copies values in and sets what lies outside the pattern to 0.");

  py::class_<PyModel>(m, "Model", "A GPT-2 with banded or dense MLP weights.")
      .def(py::init([](const std::string& path, bool gradients, int threads,
                       const std::optional<Bandwidths>& fc1, const std::optional<Bandwidths>& fc2,
                       const std::optional<std::string>& pattern, std::optional<uint64_t> mask_seed,
                       const std::string& precision) {
             const ModelFile file = ModelFile::open(path);
             Gpt2Options options = options_of(file);
             if (fc1) options.fc1_bandwidths = bandwidth_list(*fc1);
             if (fc2) options.fc2_bandwidths = bandwidth_list(*fc2);
             if (pattern) options.pattern = pattern_kind(*pattern);
             if (mask_seed) options.mask_seed = *mask_seed;
             const bool as_described = !fc1 && !fc2 && !pattern && !mask_seed;
             auto model = as_described ? model_of(file) : std::make_unique<Gpt2>(options);
             model->parameters().allocate(gradients);
             read_weights(*model, file);
             const Precision products = precision_of(precision);
             if (products == Precision::bf16 && !gradients) model->parameters().copy_to_bf16();
             return std::make_unique<PyModel>(std::move(model), gradients, threads, products);
           }),
           py::arg("path"), py::arg("gradients") = false, py::arg("threads") = 1,
           py::arg("fc1_bandwidth") = py::none(), py::arg("fc2_bandwidth") = py::none(),
           py::arg("pattern") = py::none(), py::arg("mask_seed") = py::none(),
           py::arg("precision") = "fp32",
           "Reads a model file; bandwidths (one for all layers or a list) and pattern are the "
           "file's\n"
           "unless given.")
      .def(
          "save",
          [](PyModel& self, const std::string& path, int64_t step) {
            self.model().save(path, {.step = step});
          },
          py::arg("path"), py::arg("step") = 0, "Writes the weights to a model file.")
      .def(
          "scale_initial_weights", [](PyModel& self) { self.model().scale_initial_weights(); },
          "Multiplies each weight with a pattern by 1 / sqrt(density).")
      .def("loss", &PyModel::loss, py::arg("inputs"), py::arg("targets"),
           "(sum, count) over targets >= 0 of int32 arrays (B, T).")
      .def("loss_and_gradients", &PyModel::loss_and_gradients, py::arg("inputs"),
           py::arg("targets"), py::arg("scale") = 1.0f,
           "(sum, count, {name: gradient of scale * sum}).")
      .def("logits", &PyModel::logits, py::arg("tokens"),
           "(n, V) next-token logits after each of n tokens, by cached decoding.")
      .def("generate", &PyModel::generate, py::arg("prompt"), py::arg("count"),
           py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("seed") = 1337)
      .def(
          "parameters",
          [](py::object self) {
            py::list list;
            for (Parameter& p : self.cast<PyModel&>().model().parameters().entries()) {
              list.append(py::cast(&p, py::return_value_policy::reference_internal, self));
            }
            return list;
          },
          "The parameter table, in order.");
}

}  // namespace pyllmc
