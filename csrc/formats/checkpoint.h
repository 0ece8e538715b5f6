// Model and checkpoint files: llm.c's version 3 (fp32) and 5 (bf16) layouts. 256 little-endian
// int32 (magic 20240326, version, maxT, V, L, NH, C, Vp), then 16 tensors, all of the version's
// type, the layers of a kind together. Whoever reads or writes one sees fp32: reading bf16 is
// exact, writing it rounds to the nearest, ties to even. Header slots that llm.c leaves 0 hold [8]
// step and, when [9] is 1, [10] fc1 bandwidth, [11] fc2 bandwidth, [12] init seed, [13] data seed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "formats/file_reader.h"

namespace pyllmc {

// The most that a header's number and a seed may be.
constexpr int64_t kMaxInt32 = INT32_MAX;
constexpr int64_t kMaxUint32 = UINT32_MAX;

// maxT, V, L, NH, C, Vp in llm.c's letters.
struct Gpt2Config {
  int64_t max_seq_len = 0;
  int64_t vocab_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t channels = 0;
  int64_t padded_vocab_size = 0;

  bool operator==(const Gpt2Config&) const = default;
};

// What each dimension is called, in every file and table that names them.
constexpr std::pair<const char*, int64_t Gpt2Config::*> kGpt2Dimensions[] = {
    {"max_seq_len", &Gpt2Config::max_seq_len},
    {"vocab_size", &Gpt2Config::vocab_size},
    {"num_layers", &Gpt2Config::num_layers},
    {"num_heads", &Gpt2Config::num_heads},
    {"channels", &Gpt2Config::channels},
    {"padded_vocab_size", &Gpt2Config::padded_vocab_size}};

// What the run that wrote the file adds to it. Bandwidths are on the hidden axis, 0 = dense.
struct CheckpointMeta {
  int64_t step = 0;  // [0, 2^31); may be set without has_meta
  int64_t fc1_bandwidth = 0;
  int64_t fc2_bandwidth = 0;
  int64_t init_seed = 0;  // seeds are [0, 2^32): slots [12] and [13] are read as unsigned
  int64_t data_seed = 0;
  bool has_meta = false;  // false: a plain llm.c file, bandwidths and seeds unknown (0)
};

constexpr int kCheckpointTensors = 16;

// One of the 16 tensors; per_layer tensors have L as their first dimension.
struct CheckpointTensor {
  std::string_view name;
  std::vector<int64_t> shape;
  bool per_layer = false;
  int64_t count = 0;   // elements, all layers
  int64_t offset = 0;  // first byte in the file
};

// The tensors in file order: wte wpe ln1w ln1b qkvw qkvb attprojw attprojb ln2w ln2b fcw fcb
// fcprojw fcprojb lnfw lnfb. Throws UsageError on an impossible config: a dimension outside
// [1, 2^31), V > Vp, NH not dividing C, or a file of 2^63 bytes or more.
std::vector<CheckpointTensor> checkpoint_layout(const Gpt2Config& config,
                                                Precision precision = Precision::fp32);

// tensors[tensor]. Throws UsageError when there is none, or when it has not all of the `count`
// elements from `first` on.
const CheckpointTensor& tensor_with(const std::vector<CheckpointTensor>& tensors, int tensor,
                                    int64_t first, int64_t count);

// A checkpoint opened for reading: its header is valid and agrees with the file's size, which is
// known before anything is allocated. Non-finite weights are not looked for.
class CheckpointFile {
 public:
  // Throws FormatError.
  static CheckpointFile open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const Gpt2Config& config() const { return config_; }
  const CheckpointMeta& meta() const { return meta_; }
  Precision precision() const { return precision_; }
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }

  // Reads `count` elements of a tensor, from element `first` on (layer l of a per_layer tensor
  // starts at l * count_of_all / L). Throws UsageError when the range leaves the tensor or the
  // name is unknown, FormatError when the file was cut after it was opened.
  void read_tensor(int tensor, float* out, int64_t count, int64_t first = 0) const;
  void read_tensor(std::string_view name, float* out, int64_t count, int64_t first = 0) const;

 private:
  CheckpointFile(FileReader file, const Gpt2Config& config, const CheckpointMeta& meta,
                 Precision precision);

  FileReader file_;
  Gpt2Config config_;
  CheckpointMeta meta_;
  Precision precision_;
  std::vector<CheckpointTensor> tensors_;
};

// Gives the elements of one tensor of one layer, in file order of tensors, then layers. `layer` is
// 0 for wte, wpe, lnfw and lnfb. The span has count / L (or count) elements and needs to live
// until the next call only, so one scratch buffer will do for weights that are stored otherwise.
using TensorSource = std::function<std::span<const float>(int tensor, int64_t layer)>;

// Hands every tensor to `write`, layer by layer, in the order of the file. Throws UsageError when a
// span has not the size of the tensor's layer.
void write_tensors(const std::vector<CheckpointTensor>& tensors, int64_t layers,
                   const TensorSource& source,
                   const std::function<void(std::span<const float>)>& write);

// Writes a checkpoint atomically, holding nothing but the source's spans in memory. With
// make_parents missing folders are made. Without has_meta only the step of meta is written, and the
// rest has to be 0. Throws UsageError when config, meta or a span's size cannot be written,
// WriteError when the disk refuses; an older file at `path` then stays as it was.
void write_checkpoint(const std::string& path, const Gpt2Config& config, const CheckpointMeta& meta,
                      const TensorSource& source, bool make_parents = false,
                      Precision precision = Precision::fp32);

}  // namespace pyllmc
