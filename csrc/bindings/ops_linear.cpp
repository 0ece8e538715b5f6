// The linear ops on NumPy arrays, with the weight whole or as its band alone.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/op_call.h"
#include "ops/linear/linear.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

using MaybeArray = std::optional<FloatArray>;

// A weight where the kernels read it: whole, or as its band alone.
struct SentWeight {
  const float* w = nullptr;
  const uint16_t* bf16 = nullptr;
  int64_t floats = 0;
  std::optional<BandLayout> band;
  DeviceBand device_band;
  DeviceMask mask;

  SentWeight(OpCall& call, const FloatArray& array, const Pattern& pattern, bool as_band) {
    std::vector<float> packed;
    w = array.data();
    floats = array.size();
    if (as_band) {
      band.emplace(pattern);
      packed.resize(static_cast<size_t>(band->floats()));
      band->pack(w, packed.data());
      w = packed.data();
      floats = band->floats();
    }
    bf16 = call.send_bf16(w, floats);
    w = call.send_bytes(w, floats);
    if (call.device == Device::cpu) return;
    if (as_band) {
      device_band = DeviceBand(call.device, *band);
    } else if (!pattern.is_dense()) {
      mask = DeviceMask(call.device, pattern);
    }
  }
  template <class T>
  TensorOf<T> view(T* data, const FloatArray& array) const {
    return band ? TensorOf<T>(data, {floats}) : TensorOf<T>(data, {array.shape(0), array.shape(1)});
  }
  const BandLayout* layout() const { return band ? &*band : nullptr; }
};

py::object forward_py(const FloatArray& x, const FloatArray& w, std::optional<int64_t> bandwidth,
                      const MaybeArray& b, const MaybeArray& residual, bool gelu,
                      const std::string& precision, int threads, const std::string& device,
                      bool by_library) {
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  OpCall call(threads, device, precision);
  const Pattern pattern = Pattern::band(w.shape(0), w.shape(1), bandwidth.value_or(0));
  const SentWeight weight(call, w, pattern, bandwidth.has_value());
  FloatArray y = zeros({x.shape(0), w.shape(0)}), activated;
  LinearForward args = {.x = call.activation(x),
                        .w = weight.view(weight.w, w),
                        .b = {},
                        .y = residual ? call.out(y) : call.out_activation(y),
                        .w_bf16 = weight.view(weight.bf16, w),
                        .band = weight.layout(),
                        .band_table = weight.device_band.table,
                        .by_library = by_library};
  if (b) {
    args.b = call.in(*b);
    args.b_bf16 = {call.send_bf16(b->data(), b->size()), {b->size()}};
  }
  if (residual) args.residual = call.in(*residual);
  if (gelu) {
    activated = zeros_like(y);
    args.gelu = call.out_activation(activated);
  }
  call.provide(linear_workspace(call, x.shape(0), x.shape(1), w.shape(0), false, weight.layout(),
                                by_library));
  linear_forward(call, args);
  call.finish();
  if (gelu) return py::make_tuple(y, activated);
  return y;
}

py::object linear_forward_py(const FloatArray& x, const FloatArray& w, const MaybeArray& b,
                             const MaybeArray& residual, bool gelu, const std::string& precision,
                             int threads, const std::string& device) {
  return forward_py(x, w, std::nullopt, b, residual, gelu, precision, threads, device, false);
}

// The band path: the weight is stored as its band, gradients come back in the logical order.
py::object band_forward_py(const FloatArray& x, const FloatArray& w, int64_t bandwidth,
                           const MaybeArray& b, const MaybeArray& residual, bool gelu,
                           const std::string& precision, int threads, const std::string& device,
                           bool by_library) {
  return forward_py(x, w, bandwidth, b, residual, gelu, precision, threads, device, by_library);
}

py::tuple backward_py(bool as_band, const FloatArray& dy, const FloatArray& x, const FloatArray& w,
                      int64_t bandwidth, const MaybeArray& activation, const std::string& precision,
                      int threads, const std::string& device, bool by_library) {
  require_rank("dy", dy, 2);
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  OpCall call(threads, device, precision);
  const Pattern pattern = Pattern::band(w.shape(0), w.shape(1), bandwidth);
  const SentWeight weight(call, w, pattern, as_band);
  std::vector<float> gradient(static_cast<size_t>(weight.floats));
  float* there = call.send_bytes(gradient.data(), weight.floats);
  FloatArray dx = zeros_like(x), dw = zeros_like(w), db = zeros({w.shape(0)});
  LinearBackward args = {.dy = call.activation(dy),
                         .x = call.activation(x),
                         .w = weight.view(weight.w, w),
                         .dx = call.out_activation(dx),
                         .dw = weight.view(there, w),
                         .db = call.out(db),
                         .pattern = &pattern,
                         .w_bf16 = weight.view(weight.bf16, w),
                         .kept = weight.mask.bits,
                         .band = weight.layout(),
                         .band_table = weight.device_band.table,
                         .by_library = by_library};
  if (activation) args.activation = call.activation(*activation);
  call.provide(linear_workspace(call, x.shape(0), x.shape(1), w.shape(0), true, weight.layout(),
                                by_library));
  linear_backward(call, args);
  call.finish();
  call.receive_bytes(there, gradient.data(), weight.floats);
  if (as_band) {
    weight.band->unpack(gradient.data(), dw.mutable_data());
  } else {
    std::ranges::copy(gradient, dw.mutable_data());
  }
  return py::make_tuple(dx, dw, db);
}
py::tuple linear_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& w,
                             int64_t bandwidth, const MaybeArray& activation,
                             const std::string& precision, int threads, const std::string& device) {
  return backward_py(false, dy, x, w, bandwidth, activation, precision, threads, device, false);
}
py::tuple band_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& w,
                           int64_t bandwidth, const MaybeArray& activation,
                           const std::string& precision, int threads, const std::string& device,
                           bool by_library) {
  return backward_py(true, dy, x, w, bandwidth, activation, precision, threads, device, by_library);
}

}  // namespace

void bind_linear_ops(py::module_& ops) {
  ops.def("linear_forward", linear_forward_py, py::arg("x"), py::arg("w"),
          py::arg("b") = py::none(), py::arg("residual") = py::none(), py::arg("gelu") = false,
          py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("device") = "cpu",
          "y (M, N) = x w^T + b + residual; with gelu=True (y, gelu(y)).");
  ops.def("linear_backward", linear_backward_py, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("bandwidth") = 0, py::arg("activation") = py::none(),
          py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("device") = "cpu",
          "(dx, dw, db); dx is multiplied by gelu'(activation) when it is given.");
  ops.def("band_forward", band_forward_py, py::arg("x"), py::arg("w"), py::arg("bandwidth"),
          py::arg("b") = py::none(), py::arg("residual") = py::none(), py::arg("gelu") = false,
          py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("device") = "cpu",
          py::arg("by_library") = false,
          "linear_forward with only the band of w stored and multiplied; on a GPU either by own "
          "kernels or by the library's batched products.");
  ops.def("band_backward", band_backward_py, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("bandwidth"), py::arg("activation") = py::none(), py::arg("precision") = "fp32",
          py::arg("threads") = 1, py::arg("device") = "cpu", py::arg("by_library") = false,
          "(dx, dw, db) of the same.");
}

}  // namespace pyllmc
