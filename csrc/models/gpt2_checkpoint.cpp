#include "models/gpt2_checkpoint.h"

namespace pyllmc {

Parameter& gpt2_parameter(Gpt2& model, int tensor, int64_t layer) {
  const CheckpointTensor entry = checkpoint_layout(model.config())[static_cast<size_t>(tensor)];
  const std::string prefix = entry.per_layer ? "h." + std::to_string(layer) + "." : "";
  return model.parameters().find(prefix + std::string(entry.name));
}

void read_weights(Gpt2& model, const CheckpointFile& file) {
  if (!(file.config() == model.config())) {
    throw FormatError(
        message(file.path(), " holds a model of another shape than the one in memory"));
  }
  for (int tensor = 0; tensor < kCheckpointTensors; ++tensor) {
    const CheckpointTensor& entry = file.tensors()[static_cast<size_t>(tensor)];
    const int64_t layers = entry.per_layer ? model.config().num_layers : 1;
    const int64_t count = entry.count / layers;
    for (int64_t layer = 0; layer < layers; ++layer) {
      float* values = gpt2_parameter(model, tensor, layer).value.data();
      file.read_tensor(tensor, values, count, layer * count);
    }
  }
}

std::unique_ptr<Gpt2> load_gpt2(const CheckpointFile& file) {
  auto model =
      std::make_unique<Gpt2>(file.config(), file.meta().fc1_bandwidth, file.meta().fc2_bandwidth);
  model->parameters().allocate(false);
  read_weights(*model, file);
  return model;
}

void Gpt2::save(const std::string& path, const RunRecord& record) {
  const CheckpointMeta meta = {.step = record.step,
                               .fc1_bandwidth = fc1_bandwidth_,
                               .fc2_bandwidth = fc2_bandwidth_,
                               .init_seed = record.init_seed,
                               .data_seed = record.data_seed,
                               .has_meta = true};
  write_checkpoint(
      path, config_, meta,
      [&](int tensor, int64_t layer) {
        const Parameter& p = gpt2_parameter(*this, tensor, layer);
        return std::span<const float>(p.value.data(), static_cast<size_t>(p.count()));
      },
      true);
}

}  // namespace pyllmc
