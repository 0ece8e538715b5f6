// Parameters to Python: views that share memory with the model, copies, and assignment.
#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/dlpack.h"
#include "core/device.h"
#include "layers/parameter.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

struct PyParameter {
  Parameter* parameter;
  ParameterTable* table;
  py::object owner;  // of the table
};

template <class T>
SharedArray shared_array(const PyParameter& self, const TensorOf<T>& tensor, const Memory& memory,
                         DType type) {
  std::vector<int64_t> shape;
  for (int i = 0; i < tensor.rank(); ++i) shape.push_back(tensor.dim(i));
  return {memory, const_cast<void*>(static_cast<const void*>(tensor.data())), std::move(shape),
          type, self.table->device()};
}

SharedArray values_of(const PyParameter& self) {
  self.table->share();
  return shared_array(self, self.parameter->value, self.table->values_memory(), DType::fp32);
}

// NumPy's view of memory of the host, CuPy's of a GPU's; either keeps the memory alive.
py::object packed(const PyParameter& self) {
  const SharedArray array = values_of(self);
  if (array.device == Device::cuda) {
    try {
      return py::module_::import("cupy").attr("from_dlpack")(py::cast(array));
    } catch (const py::error_already_set& error) {
      throw DeviceError(message("a view of a GPU's memory needs CuPy (", error.what(),
                                "): pip install 'pyllmc[cuda]', or take dense() for a copy"));
    }
  }
  const py::capsule owner(new Memory(array.memory),
                          [](void* memory) { delete static_cast<Memory*>(memory); });
  return py::array_t<float>(array.shape, static_cast<float*>(array.data), owner);
}

void assign(const PyParameter& self, const py::object& values) {
  const Parameter& p = *self.parameter;
  ReadArray source;
  if (!py::isinstance<py::array>(values) && py::hasattr(values, "__dlpack__")) {
    source = from_dlpack(values);
  } else {
    const auto array = values.cast<FloatArray>();
    source.shape.assign(array.shape(), array.shape() + array.ndim());
    source.values.assign(array.data(), array.data() + array.size());
  }
  const std::vector<int64_t> expected =
      p.is_matrix ? std::vector{p.rows, p.cols} : std::vector{p.cols};
  if (source.shape != expected) {
    throw UsageError(message(p.name, " has shape ", py::str(py::cast(expected)).cast<std::string>(),
                             ", the array has ",
                             py::str(py::cast(source.shape)).cast<std::string>()));
  }
  p.pattern.project(source.values.data());
  self.table->write(p, source.values.data(), p.value.data());
}

}  // namespace

FloatArray logical_copy(const ParameterTable& table, const Parameter& p, const float* stored) {
  FloatArray array = p.is_matrix ? zeros({p.rows, p.cols}) : zeros({p.cols});
  table.read(p, stored, array.mutable_data());
  return array;
}

py::list parameter_list(ParameterTable& table, const py::object& owner) {
  py::list list;
  for (Parameter& p : table.entries()) list.append(PyParameter{&p, &table, owner});
  return list;
}

void bind_parameters(py::module_& m) {
  py::class_<SharedArray>(m, "SharedArray",
                          "Memory of the core's, for numpy.from_dlpack, cupy.from_dlpack, "
                          "torch.from_dlpack.")
      .def_property_readonly(
          "shape", [](const SharedArray& self) { return py::tuple(py::cast(self.shape)); },
          "Of the memory: a stored band is one row of numbers.")
      .def_property_readonly(
          "dtype",
          [](const SharedArray& self) { return self.type == DType::bf16 ? "bfloat16" : "float32"; },
          "'float32' or 'bfloat16'.")
      .def(
          "__dlpack__", [](const SharedArray& self, const py::kwargs&) { return to_dlpack(self); },
          "A capsule; the stream is not looked at, as no work is under way between calls.")
      .def("__dlpack_device__", &dlpack_device, "(kind, number): (1, 0) the CPU, (2, 0) the GPU.");

  py::class_<PyParameter>(m, "Parameter", "One entry of a model's parameter table.")
      .def_property_readonly(
          "name", [](const PyParameter& self) { return self.parameter->name; },
          "'wte', 'wpe', 'h.0.fcw', ...: llm.c's, by layer.")
      .def_property_readonly(
          "shape",
          [](const PyParameter& self) -> py::tuple {
            const Parameter& p = *self.parameter;
            if (p.is_matrix) return py::make_tuple(p.rows, p.cols);
            return py::make_tuple(p.cols);
          },
          "The logical one, (rows, cols) or (cols,), however it is stored.")
      .def_property_readonly(
          "pattern", [](const PyParameter& self) { return self.parameter->pattern; },
          "Which entries may be non-zero.")
      .def_property_readonly(
          "device", [](const PyParameter& self) { return name_of(self.table->device()); },
          "'cpu' or 'cuda': where the values are.")
      .def("packed", &packed,
           "The stored values, NumPy's on the CPU and CuPy's on a GPU; shares memory with the "
           "model. What is written to it on a GPU's default stream is waited for.")
      .def(
          "shared", [](const PyParameter& self) { return values_of(self); },
          "The same for any library that reads DLPack.")
      .def(
          "shared_bf16",
          [](const PyParameter& self) -> py::object {
            const Parameter& p = *self.parameter;
            if (!p.bf16) return py::none();
            return py::cast(shared_array(self, p.bf16, self.table->bf16_memory(), DType::bf16));
          },
          "The bf16 copy that products read, for any library that reads DLPack; None where there "
          "is none. Made anew from the values before a step.")
      .def(
          "dense",
          [](const PyParameter& self) {
            return logical_copy(*self.table, *self.parameter, self.parameter->value.data());
          },
          "A NumPy copy with the logical shape.")
      .def("assign", &assign, py::arg("values"),
           "Copies values in and sets what lies outside the pattern to 0. Takes NumPy arrays, and "
           "float32 or bfloat16 arrays of any library that writes DLPack.");
}

}  // namespace pyllmc
