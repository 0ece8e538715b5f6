// Model files of either kind. What llm.c's layout can say is written in it (formats/checkpoint.h);
// the rest (bandwidths that differ by layer, other patterns, H != 4C, low-rank MLPs) has a magic
// number of its own: little-endian int32 magic 20261122 and version 1, uint32 length n and CRC-32
// of the n bytes of JSON that follow, padded with spaces so that the fp32 tensors after it start at
// a multiple of 64. The JSON object has exactly the keys of Gpt2Config, "hidden", "mlp_rank" and
// those of ModelRecord.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "sparsity/pattern.h"

namespace pyllmc {

// What decides the tensors of a GPT-2.
struct Gpt2Shape {
  Gpt2Config config;
  int64_t hidden = 0;    // H of the MLP
  int64_t mlp_rank = 0;  // r: FC1 is (H x r)(r x C) and FC2 (C x r)(r x H); 0 = full matrices

  bool operator==(const Gpt2Shape&) const = default;
};

// What the run that wrote the file says of itself.
struct ModelRecord {
  int64_t step = 0;
  std::vector<int64_t> fc1_bandwidth, fc2_bandwidth;  // (L), on the hidden axis, 0 = dense
  PatternKind pattern = PatternKind::band;
  int64_t mask_seed = 1337;
  int64_t init_seed = 0;  // seeds: 0 also where has_meta is set and one is unknown
  int64_t data_seed = 0;
  bool has_meta = false;  // false: a plain llm.c file, everything but the step unknown
};

// The tensors in file order, stacked over layers as llm.c's; a low-rank model has fcinw (L, r, C)
// before fcw (L, H, r), and fcprojinw (L, r, H) before fcprojw (L, C, r). Offsets count from the
// first tensor. Throws UsageError on an impossible shape.
std::vector<CheckpointTensor> model_layout(const Gpt2Shape& shape);

// Whether llm.c's layout can say all of it.
bool fits_llmc(const Gpt2Shape& shape, const ModelRecord& record);

// A model file opened for reading: its header is valid and agrees with its size.
class ModelFile {
 public:
  // Throws FormatError.
  static ModelFile open(const std::string& path);

  const std::string& path() const { return path_; }
  const Gpt2Shape& shape() const { return shape_; }
  const Gpt2Config& config() const { return shape_.config; }
  const ModelRecord& record() const { return record_; }
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  bool is_llmc() const { return llmc_.has_value(); }

  // As CheckpointFile::read_tensor.
  void read_tensor(int tensor, float* out, int64_t count, int64_t first = 0) const;

 private:
  ModelFile() = default;

  std::string path_;
  std::optional<CheckpointFile> llmc_;
  std::optional<FileReader> own_;
  int64_t tensors_at_ = 0;  // byte of the first tensor of `own_`
  Gpt2Shape shape_;
  ModelRecord record_;
  std::vector<CheckpointTensor> tensors_;
};

// Writes a model atomically, in llm.c's layout when that can say all of it. `source` gives tensor
// by tensor of model_layout(), layer by layer. Throws UsageError when shape, record or a span's
// size cannot be written, WriteError when the disk refuses.
void write_model(const std::string& path, const Gpt2Shape& shape, const ModelRecord& record,
                 const TensorSource& source, bool make_parents = false);

}  // namespace pyllmc
