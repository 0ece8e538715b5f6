#include "formats/checkpoint.h"

#include <algorithm>
#include <utility>

#include "core/bf16.h"
#include "core/error.h"
#include "formats/atomic_file.h"

namespace pyllmc {

namespace {

constexpr char kKind[] = "checkpoint";
constexpr int32_t kMagic = 20240326;
constexpr int32_t kFp32Version = 3;
constexpr int32_t kBf16Version = 5;
constexpr int32_t kExtensionVersion = 1;
constexpr size_t kPiece = 1 << 14;  // elements converted at a time

int64_t element_bytes(Precision precision) {
  return precision == Precision::bf16 ? sizeof(uint16_t) : sizeof(float);
}

// What is impossible about a config, or nothing.
std::string config_problem(const Gpt2Config& c) {
  const std::pair<const char*, int64_t> dimensions[] = {
      {"maxT", c.max_seq_len}, {"V", c.vocab_size}, {"L", c.num_layers},
      {"NH", c.num_heads},     {"C", c.channels},   {"Vp", c.padded_vocab_size}};
  for (const auto& [name, value] : dimensions) {
    if (value < 1 || value > kMaxInt32) {
      return message(name, " = ", value, ", expected 1 to ", kMaxInt32);
    }
  }
  if (c.vocab_size > c.padded_vocab_size) {
    return message("V = ", c.vocab_size, " above Vp = ", c.padded_vocab_size,
                   ", expected V <= Vp, its padded size");
  }
  if (c.channels % c.num_heads != 0) {
    return message("C = ", c.channels, " and NH = ", c.num_heads, ", expected a C that NH divides");
  }
  return "";
}

// Fills the layout; returns the file's size in bytes, or -1 when that does not fit 63 bits.
int64_t lay_out(const Gpt2Config& c, Precision precision, std::vector<CheckpointTensor>& tensors) {
  const int64_t L = c.num_layers, C = c.channels;
  const std::pair<std::string_view, std::vector<int64_t>> shapes[kCheckpointTensors] = {
      {"wte", {c.padded_vocab_size, C}},
      {"wpe", {c.max_seq_len, C}},
      {"ln1w", {L, C}},
      {"ln1b", {L, C}},
      {"qkvw", {L, 3 * C, C}},
      {"qkvb", {L, 3 * C}},
      {"attprojw", {L, C, C}},
      {"attprojb", {L, C}},
      {"ln2w", {L, C}},
      {"ln2b", {L, C}},
      {"fcw", {L, 4 * C, C}},
      {"fcb", {L, 4 * C}},
      {"fcprojw", {L, C, 4 * C}},
      {"fcprojb", {L, C}},
      {"lnfw", {C}},
      {"lnfb", {C}}};
  // Dimensions below 2^31 cannot overflow 128 bits: the largest product is 4 L C^2 elements.
  __int128 end = kHeaderBytes;
  for (const auto& [name, shape] : shapes) {
    __int128 count = 1;
    for (const int64_t n : shape) count *= n;
    const __int128 offset = end;
    end += count * static_cast<__int128>(element_bytes(precision));
    if (end > INT64_MAX) return -1;
    tensors.push_back({.name = name,
                       .shape = shape,
                       .per_layer = tensors.size() >= 2 && tensors.size() < 14,
                       .count = static_cast<int64_t>(count),
                       .offset = static_cast<int64_t>(offset)});
  }
  return static_cast<int64_t>(end);
}

// "maxT 256, V 50257, ...", for messages about a whole header.
std::string describe(const Gpt2Config& c) {
  return message("maxT ", c.max_seq_len, ", V ", c.vocab_size, ", L ", c.num_layers, ", NH ",
                 c.num_heads, ", C ", c.channels, ", Vp ", c.padded_vocab_size);
}

void check_slot(const char* name, int64_t value, int64_t last) {
  if (value < 0 || value > last) {
    throw UsageError(message("the checkpoint's ", name, " is ", value, ", expected 0 to ", last,
                             " to fit its header slot"));
  }
}

CheckpointMeta read_meta(const std::string& path, const int32_t (&header)[kHeaderWords]) {
  const auto not_negative = [&](int slot, const char* name) {
    if (header[slot] < 0) {
      throw FormatError(message(path, " has ", name, " ", header[slot], " in header slot [", slot,
                                "], expected 0 or more; the file is damaged"));
    }
    return header[slot];
  };
  CheckpointMeta meta;
  meta.step = not_negative(8, "step");
  if (header[9] == 0) return meta;
  if (header[9] != kExtensionVersion) {
    throw FormatError(message(path, " has version ", header[9],
                              " of the header extension in slot [9], expected 0 or ",
                              kExtensionVersion, "; it needs a newer pyllmc or is damaged"));
  }
  meta.has_meta = true;
  meta.fc1_bandwidth = not_negative(10, "fc1 bandwidth");
  meta.fc2_bandwidth = not_negative(11, "fc2 bandwidth");
  meta.init_seed = static_cast<uint32_t>(header[12]);
  meta.data_seed = static_cast<uint32_t>(header[13]);
  return meta;
}

void write_values(AtomicFile& file, std::span<const float> values, Precision precision) {
  if (precision == Precision::fp32) {
    file.write(values.data(), values.size_bytes());
    return;
  }
  uint16_t piece[kPiece];
  while (!values.empty()) {
    const std::span<const float> head = values.first(std::min(kPiece, values.size()));
    std::ranges::transform(head, piece, bf16_from_float);
    file.write(piece, head.size() * sizeof(uint16_t));
    values = values.subspan(head.size());
  }
}

}  // namespace

std::vector<CheckpointTensor> checkpoint_layout(const Gpt2Config& config, Precision precision) {
  if (const std::string problem = config_problem(config); !problem.empty()) {
    throw UsageError(message("the model has ", problem));
  }
  std::vector<CheckpointTensor> tensors;
  if (lay_out(config, precision, tensors) < 0) {
    throw UsageError(message("a model of ", describe(config),
                             " takes 2^63 bytes or more, expected less; use smaller sizes"));
  }
  return tensors;
}

const CheckpointTensor& tensor_with(const std::vector<CheckpointTensor>& tensors, int tensor,
                                    int64_t first, int64_t count) {
  if (tensor < 0 || tensor >= static_cast<int>(tensors.size())) {
    throw UsageError(
        message("tensor ", tensor, " was asked for, the model has 0 to ", tensors.size() - 1));
  }
  const CheckpointTensor& t = tensors[static_cast<size_t>(tensor)];
  if (first < 0 || count < 0 || first > t.count || count > t.count - first) {
    throw UsageError(message("elements ", first, " to ", first, " + ", count, " of ", t.name,
                             " were asked for, it has ", t.count));
  }
  return t;
}

CheckpointFile::CheckpointFile(FileReader file, const Gpt2Config& config,
                               const CheckpointMeta& meta, Precision precision)
    : file_(std::move(file)),
      config_(config),
      meta_(meta),
      precision_(precision),
      tensors_(checkpoint_layout(config, precision)) {}

CheckpointFile CheckpointFile::open(const std::string& path) {
  FileReader file(path);
  int32_t header[kHeaderWords];
  read_header(file, kKind, kMagic, header);
  if (header[1] != kFp32Version && header[1] != kBf16Version) {
    throw FormatError(message(path, " has version ", header[1], ", expected ", kFp32Version,
                              " (fp32) or ", kBf16Version, " (bf16); save the model again"));
  }
  const Precision precision = header[1] == kBf16Version ? Precision::bf16 : Precision::fp32;
  const Gpt2Config config{.max_seq_len = header[2],
                          .vocab_size = header[3],
                          .num_layers = header[4],
                          .num_heads = header[5],
                          .channels = header[6],
                          .padded_vocab_size = header[7]};
  if (const std::string problem = config_problem(config); !problem.empty()) {
    throw FormatError(message(path, " has ", problem, "; its header is damaged"));
  }
  std::vector<CheckpointTensor> tensors;
  const int64_t bytes = lay_out(config, precision, tensors);
  if (bytes != file.size()) {
    const std::string expected = bytes < 0 ? "2^63 or more" : message(bytes);
    throw FormatError(message(path, " has ", file.size(), " bytes, its header (", describe(config),
                              ") asks for ", expected,
                              "; the file is not complete or its header is damaged"));
  }
  const CheckpointMeta meta = read_meta(path, header);
  return CheckpointFile(std::move(file), config, meta, precision);
}

void CheckpointFile::read_tensor(int tensor, float* out, int64_t count, int64_t first) const {
  const CheckpointTensor& t = tensor_with(tensors_, tensor, first, count);
  const int64_t offset = t.offset + first * element_bytes(precision_);
  if (precision_ == Precision::fp32) {
    file_.read(offset, out, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  uint16_t piece[kPiece];
  for (int64_t done = 0; done < count;) {
    const size_t n = std::min(kPiece, static_cast<size_t>(count - done));
    file_.read(offset + done * element_bytes(precision_), piece, n * sizeof(uint16_t));
    std::transform(piece, piece + n, out + done, float_from_bf16);
    done += static_cast<int64_t>(n);
  }
}

void CheckpointFile::read_tensor(std::string_view name, float* out, int64_t count,
                                 int64_t first) const {
  const auto found = std::ranges::find(tensors_, name, &CheckpointTensor::name);
  if (found == tensors_.end()) {
    throw UsageError(message("tensor '", name, "' was asked for, a checkpoint has none so named"));
  }
  read_tensor(static_cast<int>(found - tensors_.begin()), out, count, first);
}

void write_tensors(const std::vector<CheckpointTensor>& tensors, int64_t layers,
                   const TensorSource& source,
                   const std::function<void(std::span<const float>)>& write) {
  int index = 0;
  for (const CheckpointTensor& tensor : tensors) {
    const int64_t parts = tensor.per_layer ? layers : 1;
    for (int64_t layer = 0; layer < parts; ++layer) {
      const std::span<const float> values = source(index, layer);
      if (static_cast<int64_t>(values.size()) != tensor.count / parts) {
        throw UsageError(message("tensor ", tensor.name, " was given ", values.size(),
                                 " elements for layer ", layer, ", expected ",
                                 tensor.count / parts));
      }
      write(values);
    }
    ++index;
  }
}

void write_checkpoint(const std::string& path, const Gpt2Config& config, const CheckpointMeta& meta,
                      const TensorSource& source, bool make_parents, Precision precision) {
  const std::vector<CheckpointTensor> tensors = checkpoint_layout(config, precision);
  int32_t header[kHeaderWords] = {kMagic,
                                  precision == Precision::bf16 ? kBf16Version : kFp32Version};
  const int64_t dimensions[] = {config.max_seq_len, config.vocab_size, config.num_layers,
                                config.num_heads,   config.channels,   config.padded_vocab_size};
  std::ranges::transform(dimensions, header + 2, [](int64_t n) { return static_cast<int32_t>(n); });
  const auto put = [&](int slot, const char* name, int64_t value, int64_t last) {
    check_slot(name, value, last);
    header[slot] = static_cast<int32_t>(static_cast<uint32_t>(value));
  };
  put(8, "step", meta.step, kMaxInt32);
  if (meta.has_meta) {
    header[9] = kExtensionVersion;
    put(10, "fc1 bandwidth", meta.fc1_bandwidth, kMaxInt32);
    put(11, "fc2 bandwidth", meta.fc2_bandwidth, kMaxInt32);
    put(12, "init seed", meta.init_seed, kMaxUint32);
    put(13, "data seed", meta.data_seed, kMaxUint32);
  } else if (meta.fc1_bandwidth || meta.fc2_bandwidth || meta.init_seed || meta.data_seed) {
    throw UsageError(
        "the checkpoint has bandwidths or seeds but not has_meta, expected both or neither; set "
        "has_meta to write them");
  }

  AtomicFile file(path, make_parents);
  file.write(header, sizeof header);
  write_tensors(tensors, config.num_layers, source,
                [&](std::span<const float> values) { write_values(file, values, precision); });
  file.commit();
}

}  // namespace pyllmc
