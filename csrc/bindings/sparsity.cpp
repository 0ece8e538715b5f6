#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "sparsity/pattern.h"

namespace py = pybind11;

namespace pyllmc {

void bind_sparsity(py::module_& m) {
  py::class_<Pattern>(m, "Pattern", "Which entries of a weight may be non-zero.")
      .def_static("dense", &Pattern::dense, py::arg("rows"), py::arg("cols"))
      .def_static(
          "band", &Pattern::band, py::arg("rows"), py::arg("cols"), py::arg("bandwidth"),
          "Entry (j, i) of hidden axis H (the longer side) and residual axis C is kept iff\n"
          "2 |j C - i H| <= bandwidth C; bandwidth 0 is dense.")
      .def_property_readonly("rows", &Pattern::rows)
      .def_property_readonly("cols", &Pattern::cols)
      .def_property_readonly("bandwidth", &Pattern::bandwidth)
      .def_property_readonly("kept", &Pattern::kept, "Number of entries that may be non-zero.")
      .def_property_readonly("total", &Pattern::total)
      .def_property_readonly("density", &Pattern::density)
      .def_property_readonly("is_dense", &Pattern::is_dense, "Whether every entry is kept.")
      .def(
          "row_span",
          [](const Pattern& p, int64_t row) {
            const Pattern::Span span = p.row_span(row);
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("row"), "(begin, end) of the columns that a row keeps.")
      .def(
          "inputs_of",
          [](const Pattern& p, int64_t begin, int64_t end) {
            const Pattern::Span span = p.inputs_of({begin, end});
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("row_begin"), py::arg("row_end"))
      .def(
          "outputs_of",
          [](const Pattern& p, int64_t begin, int64_t end) {
            const Pattern::Span span = p.outputs_of({begin, end});
            return py::make_tuple(span.begin, span.end);
          },
          py::arg("col_begin"), py::arg("col_end"))
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
