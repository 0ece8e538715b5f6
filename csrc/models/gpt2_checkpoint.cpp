#include "models/gpt2_checkpoint.h"

#include <algorithm>

namespace pyllmc {
namespace {

Parameter& parameter_of(Gpt2& model, const CheckpointTensor& tensor, int64_t layer) {
  const std::string prefix = tensor.per_layer ? "h." + std::to_string(layer) + "." : "";
  return model.parameters().find(prefix + std::string(tensor.name));
}

}  // namespace

Gpt2Options options_of(const ModelFile& file) {
  const ModelRecord& record = file.record();
  return {.config = file.config(),
          .fc1_bandwidths = record.fc1_bandwidth,
          .fc2_bandwidths = record.fc2_bandwidth,
          .pattern = record.pattern,
          .mask_seed = static_cast<uint64_t>(record.mask_seed),
          .hidden = file.shape().hidden,
          .mlp_rank = file.shape().mlp_rank};
}

std::unique_ptr<Gpt2> model_of(const ModelFile& file) {
  try {
    return std::make_unique<Gpt2>(options_of(file));
  } catch (const UsageError& problem) {
    throw FormatError(message(file.path(), " describes a model that cannot be: ", problem.what()));
  }
}

void read_weights(Gpt2& model, const ModelFile& file) {
  if (!(file.shape() == model.shape())) {
    throw FormatError(
        message(file.path(), " holds a model of another shape than the one in memory"));
  }
  std::vector<float> values;
  for (int t = 0; t < static_cast<int>(file.tensors().size()); ++t) {
    const CheckpointTensor& tensor = file.tensors()[static_cast<size_t>(t)];
    const int64_t layers = tensor.per_layer ? model.config().num_layers : 1;
    const int64_t count = tensor.count / layers;
    values.resize(static_cast<size_t>(count));
    for (int64_t layer = 0; layer < layers; ++layer) {
      Parameter& p = parameter_of(model, tensor, layer);
      file.read_tensor(t, values.data(), count, layer * count);
      model.parameters().write(p, values.data(), p.value.data());
    }
  }
}

std::unique_ptr<Gpt2> load_gpt2(const ModelFile& file, Device device) {
  auto model = model_of(file);
  model->parameters().allocate(false, device);
  read_weights(*model, file);
  return model;
}

RunRecord run_of(const ModelFile& file) {
  const ModelRecord& record = file.record();
  if (!record.has_meta) return {.step = record.step};
  return {.step = record.step, .init_seed = record.init_seed, .data_seed = record.data_seed};
}

void Gpt2::save(const std::string& path, const RunRecord& record) {
  const auto banded = [](int64_t bandwidth) { return bandwidth != 0; };
  // A plain llm.c file says that nothing is known, of a dense model nothing but the seeds.
  const bool known = record.init_seed || record.data_seed ||
                     std::ranges::any_of(options_.fc1_bandwidths, banded) ||
                     std::ranges::any_of(options_.fc2_bandwidths, banded);
  const ModelRecord written = {.step = record.step,
                               .fc1_bandwidth = options_.fc1_bandwidths,
                               .fc2_bandwidth = options_.fc2_bandwidths,
                               .pattern = options_.pattern,
                               .mask_seed = static_cast<int64_t>(options_.mask_seed),
                               .init_seed = record.init_seed.value_or(0),
                               .data_seed = record.data_seed.value_or(0),
                               .has_meta = known};
  const std::vector<CheckpointTensor> tensors = model_layout(shape());
  std::vector<float> values;
  write_model(
      path, shape(), written,
      [&](int tensor, int64_t layer) {
        const Parameter& p = parameter_of(*this, tensors[static_cast<size_t>(tensor)], layer);
        values.resize(static_cast<size_t>(p.numel()));
        table_.read(p, p.value.data(), values.data());
        return std::span<const float>(values);
      },
      true);
}

}  // namespace pyllmc
