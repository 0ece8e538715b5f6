// Each function adds one part of the core to the Python module; one file a function.
#pragma once

#include <pybind11/pybind11.h>

namespace pyllmc {

void bind_errors(pybind11::module_& m);
void bind_logs(pybind11::module_& m);
void bind_formats(pybind11::module_& m);
void bind_model_files(pybind11::module_& m);
void bind_sparsity(pybind11::module_& m);
void bind_ops(pybind11::module_& m);
void bind_linear_ops(pybind11::module_& ops);  // adds to bind_ops()'s submodule
void bind_parameters(pybind11::module_& m);
void bind_model(pybind11::module_& m);
void bind_trainer(pybind11::module_& m);
void bind_bench(pybind11::module_& m);
void bind_bench_cuda(pybind11::module_& bench);  // adds to bind_bench()'s submodule

}  // namespace pyllmc
