#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of pyllmc.";
  pyllmc::bind_errors(m);
  pyllmc::bind_logs(m);
  pyllmc::bind_formats(m);
  pyllmc::bind_model_files(m);
  pyllmc::bind_sparsity(m);
  pyllmc::bind_ops(m);
  pyllmc::bind_parameters(m);
  pyllmc::bind_model(m);
  pyllmc::bind_trainer(m);
  pyllmc::bind_bench(m);
}
