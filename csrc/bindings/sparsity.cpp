#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "core/require.h"
#include "sparsity/band_layout.h"
#include "sparsity/pattern.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

HiddenAxis hidden_axis(const std::string& name) {
  if (name == "rows") return HiddenAxis::rows;
  if (name == "cols") return HiddenAxis::cols;
  throw UsageError(message("there is no hidden axis '", name, "': use 'rows' or 'cols'"));
}

void require_row(const Pattern& p, int64_t row) { require_between("row", row, 0, p.rows() - 1); }

// [begin, end) among `count` rows or columns.
Pattern::Span range(int64_t begin, int64_t end, int64_t count) {
  require_between("the end of the range", end, 0, count);
  require_between("the begin of the range", begin, 0, end);
  return {begin, end};
}

int64_t tile_floats(const Pattern& pattern) {
  return pattern.is_band() ? BandLayout(pattern).floats() : pattern.total();
}

}  // namespace

void bind_sparsity(py::module_& m) {
  py::class_<Pattern>(m, "Pattern", "Which entries of a weight may be non-zero.")
      .def_static("dense", &Pattern::dense, py::arg("rows"), py::arg("cols"),
                  "Keeps every entry of (rows, cols). Raises UsageError for a side below 1.")
      .def_static(
          "band", py::overload_cast<int64_t, int64_t, int64_t>(&Pattern::band), py::arg("rows"),
          py::arg("cols"), py::arg("bandwidth"),
          "Entry (j, i) of hidden axis H (the longer side) and residual axis C is kept iff\n"
          "2 |j C - i H| <= bandwidth C; bandwidth 0 is dense.")
      .def_static(
          "make",
          [](const std::string& kind, int64_t rows, int64_t cols, const std::string& hidden,
             int64_t bandwidth, uint64_t mask_seed, const std::string& layer,
             const std::string& weight) {
            return Pattern::make({pattern_kind(kind), mask_seed, layer, weight}, rows, cols,
                                 hidden_axis(hidden), bandwidth);
          },
          py::arg("kind"), py::arg("rows"), py::arg("cols"), py::arg("hidden"),
          py::arg("bandwidth"), py::arg("mask_seed") = 1337, py::arg("layer") = "h.0.",
          py::arg("weight") = "h.0.fcw",
          "As many entries as a band keeps, placed by 'band', 'random', 'block',\n"
          "'band-permuted-residual' or 'band-permuted-hidden'. hidden names the axis of the "
          "hidden\n"
          "units: 'rows' for FC1, 'cols' for FC2.")
      .def_property_readonly("rows", &Pattern::rows, "Outputs of the weight.")
      .def_property_readonly("cols", &Pattern::cols, "Inputs of the weight.")
      .def_property_readonly("bandwidth", &Pattern::bandwidth,
                             "On the hidden axis; 0 = dense. Other kinds keep as much as it.")
      .def_property_readonly("kept", &Pattern::kept, "Number of entries that may be non-zero.")
      .def_property_readonly("total", &Pattern::total, "rows * cols.")
      .def_property_readonly("density", &Pattern::density, "kept / total.")
      .def_property_readonly("is_dense", &Pattern::is_dense, "Whether every entry is kept.")
      .def_property_readonly(
          "kind", [](const Pattern& p) { return std::string(pattern_name(p.kind())); },
          "The name that make() takes.")
      .def_property_readonly("is_band", &Pattern::is_band,
                             "Whether it is a diagonal band that leaves something out.")
      .def_property_readonly(
          "pays", &BandLayout::pays,
          "Whether --execution band stores and multiplies it alone: a diagonal band whose tiles "
          "do\n"
          "less than the masked dense product by enough. Every other pattern keeps the mask path.")
      .def_property_readonly(
          "tile_floats", &tile_floats,
          "Floats of the tiles that hold a diagonal band, which are also the multiply-adds a row\n"
          "of the products over them; total for other patterns.")
      .def(
          "spans",
          [](const Pattern& p, int64_t row) {
            require_row(p, row);
            py::list spans;
            p.each_span(row,
                        [&](Pattern::Span s) { spans.append(py::make_tuple(s.begin, s.end)); });
            return spans;
          },
          py::arg("row"), "[(begin, end), ...]: every run of columns that a row keeps.")
      .def(
          "row_span",
          [](const Pattern& p, int64_t row) {
            require_row(p, row);
            const Pattern::Span span = p.row_span(row);
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("row"), "(begin, end) around the columns that a row keeps.")
      .def(
          "inputs_of",
          [](const Pattern& p, int64_t begin, int64_t end) {
            const Pattern::Span span = p.inputs_of(range(begin, end, p.rows()));
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("row_begin"), py::arg("row_end"),
          "(begin, end) around the columns that rows [row_begin, row_end) keep. Raises UsageError\n"
          "outside the matrix.")
      .def(
          "outputs_of",
          [](const Pattern& p, int64_t begin, int64_t end) {
            const Pattern::Span span = p.outputs_of(range(begin, end, p.cols()));
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("col_begin"), py::arg("col_end"),
          "(begin, end) around the rows that columns [col_begin, col_end) are kept in. Raises\n"
          "UsageError outside the matrix.")
      .def(
          "mask",
          [](const Pattern& p) {
            py::array_t<bool> mask({p.rows(), p.cols()});
            auto out = mask.mutable_unchecked<2>();
            for (int64_t row = 0; row < p.rows(); ++row) {
              for (int64_t col = 0; col < p.cols(); ++col) out(row, col) = p.keeps(row, col);
            }
            return mask;
          },
          "Boolean array (rows, cols), True where an entry is kept.")
      .def("__repr__", [](const Pattern& p) {
        return message("Pattern(", p.rows(), " x ", p.cols(), ", ", p.text(), ", ", p.kept(),
                       " of ", p.total(), " kept)");
      });
}

}  // namespace pyllmc
