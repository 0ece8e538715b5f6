// Log tables as NumPy arrays that own the parser's memory.
#include <pybind11/numpy.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "formats/log_parser.h"

namespace py = pybind11;

namespace pyllmc {

namespace {

template <class T>
py::array_t<T> as_array(std::vector<T>&& values) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  const auto size = static_cast<py::ssize_t>(owned->size());
  const T* data = owned->data();
  py::capsule owner(owned.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
  owned.release();
  return py::array_t<T>(size, data, owner);
}

py::dict as_dict(LogTable&& table) {
  constexpr const char* kNames[kLogSplits] = {"train", "val", "test", "train_subset"};
  py::dict splits;
  for (int i = 0; i < kLogSplits; ++i) {
    LogSeries& series = table.splits[i];
    py::dict columns;
    columns["step"] = as_array(std::move(series.step));
    columns["loss"] = as_array(std::move(series.loss));
    columns["lr"] = as_array(std::move(series.lr));
    columns["grad_norm"] = as_array(std::move(series.grad_norm));
    columns["tokens_per_second"] = as_array(std::move(series.tokens_per_second));
    splits[kNames[i]] = columns;
  }
  const LogCounts& n = table.counts;
  py::dict counts;
  counts["lines"] = n.lines;
  counts["blank"] = n.blank;
  counts["other"] = n.other;
  counts["skipped"] = n.skipped;
  counts["torn"] = n.torn;
  counts["repeated"] = n.repeated;
  counts["nonfinite"] = n.nonfinite;
  py::dict result;
  result["splits"] = splits;
  result["counts"] = counts;
  return result;
}

py::dict parse_file(const std::string& path) {
  LogTable table;
  {
    py::gil_scoped_release release;
    table = parse_log(path);
  }
  return as_dict(std::move(table));
}

py::dict parse_text(const py::bytes& text, size_t piece) {
  const std::string_view all = text;
  LogParser parser;
  for (size_t at = 0; at < all.size(); at += std::max<size_t>(piece, 1)) {
    parser.feed(all.substr(at, std::max<size_t>(piece, 1)));
  }
  return as_dict(parser.finish());
}

}  // namespace

void bind_logs(py::module_& m) {
  m.def(
      "parse_log", &parse_file, py::arg("path"),
      "The losses in a log file: {'splits': {'train'|'val'|'test'|'train_subset': {'step': int64,\n"
      "'loss', 'lr', 'grad_norm', 'tokens_per_second': float64 arrays, by step}}, 'counts': "
      "{'lines',\n"
      "'blank', 'other', 'skipped', 'torn', 'repeated', 'nonfinite'}}. Nothing in the file makes\n"
      "it fail; one that cannot be read raises FormatError. Rules: csrc/formats/log_parser.h.");
  m.def("parse_log_text", &parse_text, py::arg("text"), py::arg("piece") = size_t{1} << 20,
        "The same for a log in memory (bytes), fed to the parser `piece` bytes at a time.");
}

}  // namespace pyllmc
