// Checkpoints, token files and tokenizers for Python. Files are read and written without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "core/error.h"
#include "core/text.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer.h"
#include "formats/tokens.h"

namespace py = pybind11;

namespace pyllmc {

namespace {

using Path = std::filesystem::path;
using Float32Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

// The header's other keys in Python and what they stand for.
constexpr std::pair<const char*, int64_t CheckpointMeta::*> kMetaKeys[] = {
    {"step", &CheckpointMeta::step},
    {"fc1_bandwidth", &CheckpointMeta::fc1_bandwidth},
    {"fc2_bandwidth", &CheckpointMeta::fc2_bandwidth},
    {"init_seed", &CheckpointMeta::init_seed},
    {"data_seed", &CheckpointMeta::data_seed}};
constexpr char kHasMeta[] = "has_meta";
constexpr char kPrecision[] = "precision";
constexpr char kFp32[] = "fp32", kBf16[] = "bf16";

py::dict header_dict(const CheckpointFile& file) {
  py::dict header;
  for (const auto& [key, field] : kGpt2Dimensions) header[key] = file.config().*field;
  for (const auto& [key, field] : kMetaKeys) header[key] = file.meta().*field;
  header[kHasMeta] = file.meta().has_meta;
  header[kPrecision] = file.precision() == Precision::bf16 ? kBf16 : kFp32;
  return header;
}

CheckpointFile open_checkpoint(const Path& path) {
  py::gil_scoped_release release;
  return CheckpointFile::open(path.string());
}

py::tuple read_checkpoint(const Path& path) {
  const CheckpointFile file = open_checkpoint(path);
  py::dict tensors;
  for (const CheckpointTensor& tensor : file.tensors()) {
    Float32Array array(tensor.shape);
    float* values = array.mutable_data();
    {
      py::gil_scoped_release release;
      file.read_tensor(tensor.name, values, tensor.count);
    }
    tensors[py::str(tensor.name)] = array;
  }
  return py::make_tuple(header_dict(file), tensors);
}

int64_t whole_number(const char* key, const py::handle& value) {
  try {
    return value.cast<int64_t>();
  } catch (const py::cast_error&) {
    throw UsageError(message("the checkpoint header's ", key, " is ",
                             py::repr(value).cast<std::string>(), ", expected a whole number"));
  }
}

Precision precision_of(const py::handle& value) {
  if (value.equal(py::str(kFp32))) return Precision::fp32;
  if (value.equal(py::str(kBf16))) return Precision::bf16;
  throw UsageError(message("the checkpoint header's ", kPrecision, " is ",
                           py::repr(value).cast<std::string>(), ", expected '", kFp32, "' or '",
                           kBf16, "'"));
}

// A shape as Python writes it.
template <class T>
std::string shape_text(const T* shape, size_t dimensions) {
  py::tuple tuple(dimensions);
  for (size_t i = 0; i < dimensions; ++i) tuple[i] = shape[i];
  return py::repr(tuple).cast<std::string>();
}

void write_checkpoint_dicts(const Path& path, const py::dict& header, const py::dict& tensors) {
  Gpt2Config config;
  CheckpointMeta meta;
  size_t known = 0;
  for (const auto& [key, field] : kGpt2Dimensions) {
    if (!header.contains(key)) {
      throw UsageError(message("the checkpoint header lacks ", key, ", expected all dimensions"));
    }
    config.*field = whole_number(key, header[key]);
    ++known;
  }
  for (const auto& [key, field] : kMetaKeys) {
    if (!header.contains(key)) continue;
    meta.*field = whole_number(key, header[key]);
    ++known;
  }
  if (header.contains(kHasMeta)) {
    meta.has_meta = whole_number(kHasMeta, header[kHasMeta]) != 0;
    ++known;
  }
  Precision precision = Precision::fp32;
  if (header.contains(kPrecision)) {
    precision = precision_of(header[kPrecision]);
    ++known;
  }
  if (known != header.size()) {
    throw UsageError(message("the checkpoint header is ", py::repr(header).cast<std::string>(),
                             ", expected no keys but those that read_checkpoint_header gives"));
  }
  std::vector<Float32Array> arrays;
  for (const CheckpointTensor& tensor : checkpoint_layout(config)) {
    const py::str name(tensor.name);
    if (!tensors.contains(name)) {
      throw UsageError(message("tensor ", tensor.name, " is missing, expected all ",
                               kCheckpointTensors, " of a checkpoint"));
    }
    Float32Array array = Float32Array::ensure(tensors[name]);
    if (!array) throw py::error_already_set();
    const auto dimensions = static_cast<size_t>(array.ndim());
    if (!std::equal(tensor.shape.begin(), tensor.shape.end(), array.shape(),
                    array.shape() + dimensions)) {
      throw UsageError(message("tensor ", tensor.name, " has shape ",
                               shape_text(array.shape(), dimensions), ", expected ",
                               shape_text(tensor.shape.data(), tensor.shape.size())));
    }
    arrays.push_back(std::move(array));
  }
  if (tensors.size() != arrays.size()) {
    throw UsageError(message(tensors.size(), " tensors were given, expected the ",
                             kCheckpointTensors, " of a checkpoint"));
  }
  std::vector<std::span<const float>> values;
  for (const Float32Array& array : arrays) {
    values.emplace_back(array.data(), static_cast<size_t>(array.size()));
  }
  const std::vector<CheckpointTensor> layout = checkpoint_layout(config);
  py::gil_scoped_release release;
  const auto source = [&](int tensor, int64_t layer) {
    const auto t = static_cast<size_t>(tensor);
    const size_t layers = layout[t].per_layer ? static_cast<size_t>(config.num_layers) : 1;
    const size_t count = values[t].size() / layers;
    return values[t].subspan(static_cast<size_t>(layer) * count, count);
  };
  write_checkpoint(path.string(), config, meta, source, false, precision);
}

py::array_t<uint16_t> read_tokens(const TokenShards& shards, int64_t shard, int64_t offset,
                                  int64_t count) {
  // Before the array is made: a count from outside must not decide how much memory is taken.
  const int64_t tokens = shards.shard_tokens(shard);
  const bool fits = offset >= 0 && count >= 0 && offset <= tokens && count <= tokens - offset;
  py::array_t<uint16_t> array(fits ? count : 0);
  uint16_t* values = array.mutable_data();
  py::gil_scoped_release release;
  shards.read(shard, offset, count, values);
  return array;
}

void bind_checkpoint(py::module_& m) {
  m.def(
      "read_checkpoint_header", [](const Path& path) { return header_dict(open_checkpoint(path)); },
      py::arg("path"),
      "What an llm.c checkpoint says of itself: {'max_seq_len', 'vocab_size', 'num_layers',\n"
      "'num_heads', 'channels', 'padded_vocab_size', 'step', 'fc1_bandwidth', 'fc2_bandwidth',\n"
      "'init_seed', 'data_seed': int, 'has_meta': bool, 'precision': 'fp32' (version 3) or 'bf16'\n"
      "(version 5)}. has_meta is False for files that record no bandwidths and seeds. Raises\n"
      "FormatError when the file is not one or its size disagrees with its header.");
  m.def("read_checkpoint", &read_checkpoint, py::arg("path"),
        "(header, tensors): the dict of read_checkpoint_header, and the 16 tensors by name as\n"
        "float32 arrays, whatever the precision: wte (Vp, C), wpe (maxT, C), ln1w ln1b (L, C),\n"
        "qkvw (L, 3C, C), qkvb (L, 3C), attprojw (L, C, C), attprojb ln2w ln2b (L, C),\n"
        "fcw (L, 4C, C), fcb (L, 4C), fcprojw (L, C, 4C), fcprojb (L, C), lnfw lnfb (C). Raises\n"
        "FormatError.");
  m.def(
      "write_checkpoint", &write_checkpoint_dicts, py::arg("path"), py::arg("header"),
      py::arg("tensors"),
      "Writes a checkpoint that read_checkpoint gives back, atomically. The header needs its six\n"
      "dimensions; bandwidths and seeds ask for has_meta; precision 'bf16' rounds to the nearest,\n"
      "ties to even, the default is 'fp32'. Raises UsageError when header and tensors do not fit\n"
      "together, WriteError when the file cannot be written.");
}

void bind_tokens(py::module_& m) {
  py::class_<TokenShards>(
      m, "TokenShards",
      "The token files that a path or glob names, sorted by name. Raises FormatError when nothing\n"
      "matches or a file is not a token file of the size its header says.")
      .def(py::init([](const Path& pattern) { return TokenShards::open(pattern.string()); }),
           py::arg("pattern"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly(
          "files",
          [](const TokenShards& shards) {
            std::vector<std::string> files;
            for (int64_t i = 0; i < shards.shard_count(); ++i) files.push_back(shards.file(i));
            return files;
          },
          "Paths of the shards, in order.")
      .def_property_readonly("tokens", &TokenShards::total_tokens, "Tokens in all shards.")
      .def_property_readonly(
          "shard_tokens",
          [](const TokenShards& shards) {
            std::vector<int64_t> tokens;
            for (int64_t i = 0; i < shards.shard_count(); ++i) {
              tokens.push_back(shards.shard_tokens(i));
            }
            return tokens;
          },
          "Tokens of each shard.")
      .def("read", &read_tokens, py::arg("shard"), py::arg("offset"), py::arg("count"),
           "Tokens [offset, offset + count) of a shard as uint16. Raises UsageError when it has\n"
           "fewer, FormatError when its file was changed since it was opened.")
      .def("check_range", &TokenShards::check_range, py::arg("vocab_size"),
           py::call_guard<py::gil_scoped_release>(),
           "Reads every token and raises FormatError, naming file, position and value, at the\n"
           "first that is not below vocab_size.")
      .def_property_readonly(
          "fingerprint",
          [](const TokenShards& shards) {
            uint64_t hash = 0;
            {
              py::gil_scoped_release release;
              hash = shards.fingerprint();
            }
            return hex_text(hash);
          },
          "16 hexadecimal digits over each shard's file name, size and content; folders are not\n"
          "part of it. A file is read whole, once as long as it does not change.");
}

void bind_tokenizer(py::module_& m) {
  py::class_<Tokenizer>(m, "Tokenizer",
                        "Byte-level BPE with GPT-2's split pattern, from an llm.c tokenizer file.\n"
                        "Raises FormatError when the file is not one.")
      .def(py::init([](const Path& path) { return Tokenizer::open(path.string()); }),
           py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size, "Tokens, end-of-text included.")
      .def_property_readonly("eot", &Tokenizer::eot, "Id of the end-of-text token.")
      .def(
          "decode",
          [](const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
            std::string text;
            for (const int64_t id : ids) text += tokenizer.decode(id);
            return py::bytes(text);
          },
          py::arg("ids"),
          "The bytes of a sequence of ids; they need not be whole UTF-8 characters. Raises\n"
          "UsageError on an id outside the vocabulary.")
      .def("encode", &Tokenizer::encode, py::arg("text"), py::call_guard<py::gil_scoped_release>(),
           "Ids of a str, or of bytes in UTF-8. The same as tiktoken's encode_ordinary: the\n"
           "end-of-text token is never among them.");
}

}  // namespace

void bind_formats(py::module_& m) {
  bind_checkpoint(m);
  bind_tokens(m);
  bind_tokenizer(m);
}

}  // namespace pyllmc
