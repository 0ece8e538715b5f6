// Model files of either kind for Python. Files are read without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>

#include "bindings/bindings.h"
#include "models/model_file.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

using Path = std::filesystem::path;

ModelFile open_model(const Path& path) {
  py::gil_scoped_release release;
  return ModelFile::open(path.string());
}

py::dict header_dict(const ModelFile& file) {
  const ModelRecord& record = file.record();
  py::dict header;
  for (const auto& [key, field] : kGpt2Dimensions) header[key] = file.config().*field;
  header["hidden"] = file.shape().hidden;
  header["mlp_rank"] = file.shape().mlp_rank;
  header["fc1_bandwidth"] = record.fc1_bandwidth;
  header["fc2_bandwidth"] = record.fc2_bandwidth;
  header["pattern"] = std::string(pattern_name(record.pattern));
  header["mask_seed"] = record.mask_seed;
  header["step"] = record.step;
  header["init_seed"] = record.init_seed;
  header["data_seed"] = record.data_seed;
  header["has_meta"] = record.has_meta;
  header["llmc"] = file.is_llmc();
  return header;
}

py::tuple read_model(const Path& path) {
  const ModelFile file = open_model(path);
  py::dict tensors;
  for (int t = 0; t < static_cast<int>(file.tensors().size()); ++t) {
    const CheckpointTensor& tensor = file.tensors()[static_cast<size_t>(t)];
    py::array_t<float> array(tensor.shape);
    float* values = array.mutable_data();
    {
      py::gil_scoped_release release;
      file.read_tensor(t, values, tensor.count);
    }
    tensors[py::str(tensor.name)] = array;
  }
  return py::make_tuple(header_dict(file), tensors);
}

}  // namespace

void bind_model_files(py::module_& m) {
  m.def(
      "read_model_header", [](const Path& path) { return header_dict(open_model(path)); },
      py::arg("path"),
      "What a model file of either kind says of itself: the dimensions of read_checkpoint_header,\n"
      "'hidden' and 'mlp_rank' (0 = full), 'fc1_bandwidth' and 'fc2_bandwidth' (lists, one a\n"
      "layer), 'pattern', 'mask_seed', 'step', 'init_seed', 'data_seed', 'has_meta', and 'llmc':\n"
      "whether the file has llm.c's layout. Raises FormatError.");
  m.def("read_model", &read_model, py::arg("path"),
        "(header, tensors) of a model file of either kind; tensors are those of read_checkpoint,\n"
        "with H instead of 4C. A low-rank model has fcinw (L, r, C) and fcw (L, H, r), fcprojinw\n"
        "(L, r, H) and fcprojw (L, C, r). Raises FormatError.");
}

}  // namespace pyllmc
