// The core's typed errors arrive in Python as the classes of pyllmc/errors.py.
#include "bindings/bindings.h"
#include "core/error.h"

namespace pyllmc {

namespace {

// The class is looked up when it is needed: an error is rare, and holding a Python object in a
// static would outlive the interpreter.
void raise_as(const char* class_name, const Error& error) {
  pybind11::object type = pybind11::module_::import("pyllmc.errors").attr(class_name);
  pybind11::set_error(type, error.what());
}

}  // namespace

void bind_errors(pybind11::module_&) {
  pybind11::register_local_exception_translator([](std::exception_ptr raised) {
    try {
      std::rethrow_exception(raised);
    } catch (const UsageError& error) {
      raise_as("UsageError", error);
    } catch (const DivergedError& error) {
      raise_as("DivergedError", error);
    } catch (const FormatError& error) {
      raise_as("FormatError", error);
    } catch (const WriteError& error) {
      raise_as("WriteError", error);
    } catch (const DeviceError& error) {
      raise_as("DeviceError", error);
    } catch (const Error& error) {
      raise_as("PyllmcError", error);
    }
  });
}

}  // namespace pyllmc
