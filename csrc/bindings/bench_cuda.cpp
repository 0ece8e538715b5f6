// Timings of ops on a GPU: many calls recorded once and replayed, so that the host plays no part.
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "bindings/bindings.h"
#include "core/bf16.h"
#include "core/device.h"
#include "core/random.h"
#include "ops/linear/linear.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

constexpr int kCallsRecorded = 10;

// Arrays on the GPU, for the length of a measurement.
class DeviceArrays {
 public:
  // Uniform in [-limit, limit); zeros without a limit.
  Tensor make(int64_t rows, int64_t cols, DType type, const char* name = "", double limit = 0) {
    const Tensor counted(nullptr, {rows, cols}, type);
    kept_.push_back(allocate(Device::cuda, counted.bytes(), "a benchmark"));
    auto* at = reinterpret_cast<float*>(kept_.back().get());
    if (limit > 0) {
      std::vector<float> values(static_cast<size_t>(rows * cols));
      Philox(1, name).fill_uniform(values.data(), rows * cols, -limit, limit);
      fill(at, values, type);
    }
    return Tensor(at, {rows, cols}, type);
  }
  static void fill(float* at, const std::vector<float>& values, DType type) {
    const auto n = static_cast<int64_t>(values.size());
    if (type == DType::fp32) return copy_now(Device::cuda, at, values.data(), 4 * n);
    std::vector<uint16_t> bits(values.size());
    std::ranges::transform(values, bits.begin(), bf16_from_float);
    copy_now(Device::cuda, at, bits.data(), 2 * n);
  }

 private:
  std::vector<Memory> kept_;
};

// Seconds of a call in each of `repeats` replays.
template <class Call>
std::vector<double> replay(const Context& context, int64_t repeats, const Call& call) {
  Graph graph;
  const auto run = [&] {
    graph.run(context, [&] {
      for (int i = 0; i < kCallsRecorded; ++i) call();
    });
    synchronize(context);
  };
  for (int i = 0; i < 3; ++i) run();
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    seconds.push_back(took.count() / kCallsRecorded);
  }
  return seconds;
}

// "fc1" (H, C) or "fc2" (C, H), dense or with only its band stored.
py::dict linear(int64_t M, int64_t channels, const std::string& which, int64_t bandwidth,
                const std::string& precision, int64_t repeats) {
  if (M < 1 || channels < 1 || repeats < 1)
    throw UsageError("M, channels and repeats are 1 or more");
  const bool fc1 = which == "fc1";
  if (!fc1 && which != "fc2") {
    throw UsageError(message("there is no linear layer called '", which, "': use fc1 or fc2"));
  }
  const int64_t hidden = 4 * channels, N = fc1 ? hidden : channels, K = fc1 ? channels : hidden;
  const Pattern pattern = Pattern::band(N, K, fc1 ? HiddenAxis::rows : HiddenAxis::cols, bandwidth);
  std::optional<BandLayout> band;
  if (pattern.is_band()) band.emplace(pattern);
  const BandLayout* layout = band ? &*band : nullptr;
  const Stream stream(Device::cuda);
  Context context;
  context.device = Device::cuda;
  context.stream = stream.get();
  context.precision = precision_of(precision);
  const DType activations = context.activations();

  std::vector<double> forward, backward;
  {
    const py::gil_scoped_release release;
    DeviceArrays arrays;
    const int64_t floats = band ? band->floats() : N * K;
    std::vector<float> weight(static_cast<size_t>(N * K));
    Philox(1, "w").fill_uniform(weight.data(), N * K, -0.02, 0.02);
    if (band) {
      std::vector<float> packed(static_cast<size_t>(floats));
      band->pack(weight.data(), packed.data());
      weight = std::move(packed);
    }
    const DeviceBand device_band = band ? DeviceBand(Device::cuda, *band) : DeviceBand();
    const auto as_weight = [&](auto* at) {
      using T = std::remove_pointer_t<decltype(at)>;
      return band ? TensorOf<T>(at, {floats}) : TensorOf<T>(at, {N, K});
    };
    const Tensor w = arrays.make(1, floats, DType::fp32);
    const Tensor copies = arrays.make(1, floats, DType::bf16);
    DeviceArrays::fill(w.data(), weight, DType::fp32);
    DeviceArrays::fill(copies.data(), weight, DType::bf16);
    const TensorOf<const uint16_t> w_bf16 =
        activations == DType::bf16 ? as_weight(copies.as<uint16_t>()) : TensorOf<uint16_t>();
    const Tensor bias = arrays.make(1, N, DType::fp32, "b", 0.02);
    const Tensor bias_bf16 = arrays.make(1, N, DType::bf16, "b", 0.02);
    const Tensor x = arrays.make(M, K, activations, "x", 1),
                 dy = arrays.make(M, N, activations, "dy", 1);
    const Tensor y = arrays.make(M, N, activations), dx = arrays.make(M, K, activations);
    const Tensor dw = arrays.make(1, floats, DType::fp32), db = arrays.make(1, N, DType::fp32);
    const int64_t scratch = std::max<int64_t>(1, linear_workspace(context, M, K, N, true, layout));
    context.workspace = Tensor(arrays.make(1, scratch, DType::fp32).data(), {scratch});
    const LinearForward forward_args = {.x = x,
                                        .w = as_weight(w.data()),
                                        .b = Tensor(bias.data(), {N}),
                                        .y = y,
                                        .w_bf16 = w_bf16,
                                        .b_bf16 = {bias_bf16.as<uint16_t>(), {N}},
                                        .band = layout,
                                        .band_table = device_band.table};
    const LinearBackward backward_args = {.dy = dy,
                                          .x = x,
                                          .w = as_weight(w.data()),
                                          .dx = dx,
                                          .dw = as_weight(dw.data()),
                                          .db = Tensor(db.data(), {N}),
                                          .pattern = &pattern,
                                          .w_bf16 = w_bf16,
                                          .band = layout,
                                          .band_table = device_band.table};
    forward = replay(context, repeats, [&] { linear_forward(context, forward_args); });
    backward = replay(context, repeats, [&] { linear_backward(context, backward_args); });
  }
  py::dict out;
  out["forward"] = forward;
  out["backward"] = backward;
  out["density"] = pattern.density();
  out["executed"] = band ? band->executed() : 1.0;
  return out;
}

}  // namespace

void bind_bench_cuda(py::module_& m) {
  m.attr("bench").cast<py::module_>().def(
      "linear_cuda", linear, py::arg("M"), py::arg("channels"), py::arg("which"),
      py::arg("bandwidth") = 0, py::arg("precision") = "bf16", py::arg("repeats") = 10,
      "{forward, backward: seconds of a call in each replay of ten; density; executed}");
}

}  // namespace pyllmc
