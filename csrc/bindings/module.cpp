#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of pyllmc.";
  pyllmc::bind_errors(m);
  pyllmc::bind_logs(m);
  pyllmc::bind_formats(m);
}
