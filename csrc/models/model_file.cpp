#include "models/model_file.h"

#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "formats/atomic_file.h"
#include "formats/crc32.h"

namespace pyllmc {
namespace {

constexpr int32_t kMagic = 20261122;
constexpr int32_t kVersion = 1;
constexpr int64_t kPrefixBytes = 16;
constexpr int64_t kAlignment = 64;
constexpr int64_t kMostJsonBytes = 1 << 20;

struct Prefix {
  int32_t magic, version;
  uint32_t json_bytes, json_crc;
};
static_assert(sizeof(Prefix) == kPrefixBytes);

struct RecordNumber {
  const char* name;
  int64_t ModelRecord::* field;
  int64_t most;
};
constexpr RecordNumber kNumbers[] = {{"step", &ModelRecord::step, kMaxInt32},
                                     {"mask_seed", &ModelRecord::mask_seed, kMaxUint32},
                                     {"init_seed", &ModelRecord::init_seed, kMaxUint32},
                                     {"data_seed", &ModelRecord::data_seed, kMaxUint32}};

constexpr std::pair<const char*, std::vector<int64_t> ModelRecord::*> kLists[] = {
    {"fc1_bandwidth", &ModelRecord::fc1_bandwidth}, {"fc2_bandwidth", &ModelRecord::fc2_bandwidth}};

constexpr size_t kKeys =
    std::size(kGpt2Dimensions) + 2 + std::size(kNumbers) + std::size(kLists) + 1;

void require_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    throw UsageError(
        message("the model's ", name, " is ", value, ", expected ", least, " to ", most));
  }
}

void check_record(const Gpt2Shape& shape, const ModelRecord& record) {
  for (const auto& [name, field, most] : kNumbers) require_range(name, record.*field, 0, most);
  for (const auto& [name, field] : kLists) {
    const std::vector<int64_t>& widths = record.*field;
    if (static_cast<int64_t>(widths.size()) != shape.config.num_layers) {
      throw UsageError(message("the model's ", name, " has ", widths.size(),
                               " values, expected one for each of ", shape.config.num_layers,
                               " layers"));
    }
    for (const int64_t width : widths) require_range(name, width, 0, kMaxInt32);
  }
}

std::string header_text(const Gpt2Shape& shape, const ModelRecord& record) {
  JsonValue::Object object;
  for (const auto& [name, field] : kGpt2Dimensions) object.emplace_back(name, shape.config.*field);
  object.emplace_back("hidden", shape.hidden);
  object.emplace_back("mlp_rank", shape.mlp_rank);
  for (const auto& [name, field] : kLists) {
    JsonValue::List list((record.*field).begin(), (record.*field).end());
    object.emplace_back(name, std::move(list));
  }
  object.emplace_back("pattern", std::string(pattern_name(record.pattern)));
  for (const auto& [name, field, most] : kNumbers) object.emplace_back(name, record.*field);
  std::string text = JsonValue(std::move(object)).text();
  const auto end = kPrefixBytes + static_cast<int64_t>(text.size());
  text.append(static_cast<size_t>((kAlignment - end % kAlignment) % kAlignment), ' ');
  return text;
}

void read_header(std::string_view text, Gpt2Shape& shape, ModelRecord& record) {
  const JsonValue json = JsonValue::parse(text);
  if (json.object().size() != kKeys) {
    throw FormatError(message("it has ", json.object().size(), " keys, expected ", kKeys));
  }
  for (const auto& [name, field] : kGpt2Dimensions) shape.config.*field = json.at(name).integer();
  shape.hidden = json.at("hidden").integer();
  shape.mlp_rank = json.at("mlp_rank").integer();
  for (const auto& [name, field] : kLists) {
    for (const JsonValue& width : json.at(name).list()) {
      (record.*field).push_back(width.integer());
    }
  }
  record.pattern = pattern_kind(json.at("pattern").string());
  for (const auto& [name, field, most] : kNumbers) record.*field = json.at(name).integer();
  record.has_meta = true;
}

// Total bytes of the tensors; -1 when that does not fit 62 bits.
int64_t lay_out(const Gpt2Shape& shape, std::vector<CheckpointTensor>& tensors) {
  const Gpt2Config& config = shape.config;
  const int64_t L = config.num_layers, C = config.channels, H = shape.hidden, r = shape.mlp_rank;
  __int128 end = 0;
  const auto add = [&](std::string_view name, std::vector<int64_t> dims, bool per_layer) {
    __int128 count = 1;
    for (const int64_t n : dims) count *= n;
    tensors.push_back({.name = name,
                       .shape = std::move(dims),
                       .per_layer = per_layer,
                       .count = static_cast<int64_t>(count),
                       .offset = static_cast<int64_t>(end)});
    end += count * static_cast<__int128>(sizeof(float));
  };
  // Every side is below 2^31 and checkpoint_layout() bounds L C^2; H and r are bounded alike, so
  // no product here leaves 128 bits.
  for (CheckpointTensor& tensor : checkpoint_layout(config)) {
    if (tensor.name == "fcw") {
      if (r > 0) add("fcinw", {L, r, C}, true);
      add("fcw", {L, H, r > 0 ? r : C}, true);
    } else if (tensor.name == "fcb") {
      add("fcb", {L, H}, true);
    } else if (tensor.name == "fcprojw") {
      if (r > 0) add("fcprojinw", {L, r, H}, true);
      add("fcprojw", {L, C, r > 0 ? r : H}, true);
    } else {
      add(tensor.name, std::move(tensor.shape), tensor.per_layer);
    }
  }
  return end > INT64_MAX / 2 ? -1 : static_cast<int64_t>(end);
}

}  // namespace

std::vector<CheckpointTensor> model_layout(const Gpt2Shape& shape) {
  checkpoint_layout(shape.config);  // refuses dimensions that cannot be
  require_range("hidden width", shape.hidden, 1, kMaxInt32);
  require_range("MLP rank", shape.mlp_rank, 0, std::min(shape.hidden, shape.config.channels));
  std::vector<CheckpointTensor> tensors;
  if (lay_out(shape, tensors) < 0) {
    throw UsageError(message("a model of H ", shape.hidden, ", C ", shape.config.channels, ", L ",
                             shape.config.num_layers, " is too large; use smaller sizes"));
  }
  return tensors;
}

bool fits_llmc(const Gpt2Shape& shape, const ModelRecord& record) {
  const auto uniform = [](const std::vector<int64_t>& widths) {
    return std::ranges::adjacent_find(widths, std::ranges::not_equal_to()) == widths.end();
  };
  const auto dense = [](const std::vector<int64_t>& widths) {
    return std::ranges::all_of(widths, [](int64_t width) { return width == 0; });
  };
  const bool band = record.pattern == PatternKind::band ||
                    (dense(record.fc1_bandwidth) && dense(record.fc2_bandwidth));
  return band && uniform(record.fc1_bandwidth) && uniform(record.fc2_bandwidth) &&
         shape.hidden == 4 * shape.config.channels && shape.mlp_rank == 0;
}

ModelFile ModelFile::open(const std::string& path) {
  FileReader reader(path);
  ModelFile file;
  file.path_ = path;
  Prefix prefix{};
  if (reader.size() >= kPrefixBytes) reader.read(0, &prefix, sizeof prefix);
  if (prefix.magic != kMagic) {
    const CheckpointFile& llmc = file.llmc_.emplace(CheckpointFile::open(path));
    const CheckpointMeta& meta = llmc.meta();
    const auto layers = static_cast<size_t>(llmc.config().num_layers);
    file.shape_ = {.config = llmc.config(), .hidden = 4 * llmc.config().channels};
    file.record_ = {.step = meta.step,
                    .fc1_bandwidth = std::vector(layers, meta.fc1_bandwidth),
                    .fc2_bandwidth = std::vector(layers, meta.fc2_bandwidth),
                    .init_seed = meta.init_seed,
                    .data_seed = meta.data_seed,
                    .has_meta = meta.has_meta};
    file.tensors_ = llmc.tensors();
    return file;
  }
  if (prefix.version != kVersion) {
    throw FormatError(message(path, " has version ", prefix.version,
                              " of the model file, expected ", kVersion,
                              "; it needs a newer pyllmc or is damaged"));
  }
  const int64_t length = prefix.json_bytes;
  if (length > kMostJsonBytes || (kPrefixBytes + length) % kAlignment != 0 ||
      kPrefixBytes + length > reader.size()) {
    throw FormatError(message(path, " announces a description of ", length, " bytes in a file of ",
                              reader.size(), "; the file is not complete or damaged"));
  }
  std::string text(static_cast<size_t>(length), '\0');
  reader.read(kPrefixBytes, text.data(), text.size());
  if (const uint32_t crc = crc32(text.data(), text.size()); crc != prefix.json_crc) {
    throw FormatError(message(path, " has a description with checksum ", crc32_text(crc),
                              ", expected ", crc32_text(prefix.json_crc), "; the file is damaged"));
  }
  int64_t bytes = 0;
  try {
    read_header(text, file.shape_, file.record_);
    file.tensors_ = model_layout(file.shape_);
    check_record(file.shape_, file.record_);
    const CheckpointTensor& last = file.tensors_.back();
    bytes = last.offset + last.count * static_cast<int64_t>(sizeof(float));
  } catch (const Error& problem) {
    throw FormatError(message(path, " has a description that cannot be used: ", problem.what()));
  }
  file.tensors_at_ = kPrefixBytes + length;
  if (reader.size() != file.tensors_at_ + bytes) {
    throw FormatError(message(path, " has ", reader.size(), " bytes, its description asks for ",
                              file.tensors_at_ + bytes,
                              "; the file is not complete or its description is damaged"));
  }
  file.own_.emplace(std::move(reader));
  return file;
}

void ModelFile::read_tensor(int tensor, float* out, int64_t count, int64_t first) const {
  if (llmc_) return llmc_->read_tensor(tensor, out, count, first);
  const CheckpointTensor& t = tensor_with(tensors_, tensor, first, count);
  constexpr int64_t kSize = sizeof(float);
  own_->read(tensors_at_ + t.offset + first * kSize, out, static_cast<size_t>(count * kSize));
}

void write_model(const std::string& path, const Gpt2Shape& shape, const ModelRecord& record,
                 const TensorSource& source, bool make_parents) {
  const std::vector<CheckpointTensor> tensors = model_layout(shape);
  check_record(shape, record);
  if (fits_llmc(shape, record)) {
    const CheckpointMeta meta = {.step = record.step,
                                 .fc1_bandwidth = record.fc1_bandwidth.front(),
                                 .fc2_bandwidth = record.fc2_bandwidth.front(),
                                 .init_seed = record.init_seed,
                                 .data_seed = record.data_seed,
                                 .has_meta = record.has_meta};
    write_checkpoint(path, shape.config, meta, source, make_parents);
    return;
  }
  const std::string text = header_text(shape, record);
  if (static_cast<int64_t>(text.size()) > kMostJsonBytes) {
    throw UsageError(message("the model's description takes ", text.size(),
                             " bytes, expected at most ", kMostJsonBytes, "; use fewer layers"));
  }
  const Prefix prefix = {kMagic, kVersion, static_cast<uint32_t>(text.size()),
                         crc32(text.data(), text.size())};
  AtomicFile file(path, make_parents);
  file.write(&prefix, sizeof prefix);
  file.write(text.data(), text.size());
  write_tensors(tensors, shape.config.num_layers, source, [&](std::span<const float> values) {
    file.write(values.data(), values.size_bytes());
  });
  file.commit();
}

}  // namespace pyllmc
