// A linear layer timed on a GPU: passes that are recorded once and replayed, on random numbers.
#include <pybind11/stl.h>

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

// A tensor in the device's memory, as long as this object lives.
class DeviceTensor {
 public:
  // Zeros.
  DeviceTensor(std::initializer_list<int64_t> shape, DType type)
      : tensor_(nullptr, shape, type),
        memory_(allocate(Device::cuda, tensor_.bytes(), "a benchmark")) {
    tensor_ = Tensor(reinterpret_cast<float*>(memory_.get()), shape, type);
  }
  // Uniform in [-limit, limit).
  DeviceTensor(std::initializer_list<int64_t> shape, DType type, const char* name, double limit)
      : DeviceTensor(shape, type) {
    std::vector<float> numbers(static_cast<size_t>(tensor_.numel()));
    Philox(1, name).fill_uniform(numbers.data(), tensor_.numel(), -limit, limit);
    put(numbers);
  }
  void put(const std::vector<float>& numbers) {
    if (tensor_.type() == DType::fp32) {
      return copy_now(Device::cuda, tensor_.data(), numbers.data(), tensor_.bytes());
    }
    std::vector<uint16_t> bits(numbers.size());
    std::transform(numbers.begin(), numbers.end(), bits.begin(), bf16_from_float);
    copy_now(Device::cuda, tensor_.data(), bits.data(), tensor_.bytes());
  }
  operator Tensor() const { return tensor_; }
  operator ConstTensor() const { return tensor_; }
  TensorOf<const uint16_t> bits() const {
    return {tensor_.as<const uint16_t>(), {tensor_.numel()}};
  }

 private:
  Tensor tensor_;
  Memory memory_;
};

// Seconds a call of `work`, `repeats` times the mean of `calls` replays.
template <class Work>
std::vector<double> time_replays(const Context& context, int64_t repeats, int64_t calls,
                                 const Work& work) {
  Graph graph;
  for (int i = 0; i < 3; ++i) graph.run(context, work);  // plainly, recorded, replayed
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeats; ++i) {
    synchronize(context);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t call = 0; call < calls; ++call) graph.run(context, work);
    synchronize(context);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    seconds.push_back(spent.count() / static_cast<double>(calls));
  }
  return seconds;
}

Context context_on(const Stream& stream) {
  Context context;
  context.device = Device::cuda;
  context.stream = stream.get();
  return context;
}

std::vector<double> bench_copy_cuda(int64_t bytes, int64_t repeats, int64_t calls) {
  for (const int64_t value : {bytes, repeats, calls}) {
    if (value < 1) throw UsageError(message("a size of ", value, " is not possible: 1 or more"));
  }
  const py::gil_scoped_release release;
  const Stream stream(Device::cuda);
  const Context context = context_on(stream);
  const Memory from = allocate(Device::cuda, bytes, "a benchmark");
  const Memory to = allocate(Device::cuda, bytes, "a benchmark");
  return time_replays(context, repeats, calls, [&] { copy(context, to.get(), from.get(), bytes); });
}

py::dict bench_linear_cuda(int64_t M, int64_t channels, int64_t hidden, const std::string& which,
                           int64_t bandwidth, const std::string& execution, bool gelu,
                           const std::string& precision, int64_t repeats, int64_t calls) {
  for (const int64_t value : {M, channels, hidden, repeats, calls}) {
    if (value < 1) throw UsageError(message("a size of ", value, " is not possible: 1 or more"));
  }
  const bool by_library = execution == "library", as_band = by_library || execution == "band";
  if (!as_band && execution != "dense") {
    throw UsageError(
        message("there is no execution called '", execution, "': use dense, band or library"));
  }
  if (which != "fc1" && which != "fc2") {
    throw UsageError(message("there is no linear layer called '", which, "': use fc1 or fc2"));
  }
  const bool fc1 = which == "fc1";
  const int64_t N = fc1 ? hidden : channels, K = fc1 ? channels : hidden;
  const Pattern pattern =
      Pattern::band(N, K, fc1 ? HiddenAxis::rows : HiddenAxis::cols, as_band ? bandwidth : 0);
  std::vector<double> forward, backward;
  {
    py::gil_scoped_release release;
    const Stream stream(Device::cuda);
    Context context = context_on(stream);
    context.precision = precision_of(precision);
    const DType act = context.activations();
    std::optional<BandLayout> layout;
    DeviceBand device_band;
    if (as_band) {
      layout.emplace(pattern);
      device_band = DeviceBand(Device::cuda, *layout);
    }
    const BandLayout* band = layout ? &*layout : nullptr;
    const int64_t floats = band ? band->floats() : N * K;
    // A stored band's corners hold numbers too here: they take the time of any other.
    const DeviceTensor w({floats}, DType::fp32, "w", 0.02),
        w_bf16({floats}, DType::bf16, "w", 0.02);
    const DeviceTensor b({N}, DType::fp32, "b", 0.02), b_bf16({N}, DType::bf16, "b", 0.02);
    const DeviceTensor x({M, K}, act, "x", 1.0), dy({M, N}, act, "dy", 1.0);
    const DeviceTensor y({M, N}, act), activated({gelu ? M : 1, N}, act), dx({M, K}, act);
    const DeviceTensor dw({floats}, DType::fp32), db({N}, DType::fp32);
    const int64_t scratch = std::max(linear_workspace(context, M, K, N, false, band, by_library),
                                     linear_workspace(context, M, K, N, true, band, by_library));
    const DeviceTensor workspace({std::max<int64_t>(1, scratch)}, DType::fp32);
    context.workspace = workspace;
    const auto shaped = [&](const DeviceTensor& tensor) {
      const Tensor flat = tensor;
      return band ? flat : Tensor(flat.data(), {N, K});
    };
    const LinearForward forward_args = {.x = x,
                                        .w = shaped(w),
                                        .b = b,
                                        .y = y,
                                        .gelu = gelu ? Tensor(activated) : Tensor(),
                                        .w_bf16 = w_bf16.bits(),
                                        .b_bf16 = b_bf16.bits(),
                                        .band = band,
                                        .band_table = device_band.table,
                                        .by_library = by_library};
    const LinearBackward backward_args = {.dy = dy,
                                          .x = x,
                                          .w = shaped(w),
                                          .dx = dx,
                                          .dw = shaped(dw),
                                          .db = db,
                                          .pattern = &pattern,
                                          .w_bf16 = w_bf16.bits(),
                                          .band = band,
                                          .band_table = device_band.table,
                                          .by_library = by_library};
    forward = time_replays(context, repeats, calls, [&] { linear_forward(context, forward_args); });
    backward =
        time_replays(context, repeats, calls, [&] { linear_backward(context, backward_args); });
  }
  py::dict out;
  out["forward"] = forward;
  out["backward"] = backward;
  return out;
}

}  // namespace

void bind_bench_cuda(py::module_& bench) {
  bench.def("copy_cuda", bench_copy_cuda, py::arg("bytes"), py::arg("repeats") = 5,
            py::arg("calls") = 5,
            "Seconds to copy `bytes` within a GPU's memory, the mean of `calls`, `repeats` times.");
  bench.def(
      "linear_cuda", bench_linear_cuda, py::arg("M"), py::arg("channels"), py::arg("hidden"),
      py::arg("which") = "fc1", py::arg("bandwidth") = 0, py::arg("execution") = "dense",
      py::arg("gelu") = false, py::arg("precision") = "bf16", py::arg("repeats") = 5,
      py::arg("calls") = 20,
      "{forward, backward: seconds a call, the mean of `calls` replays, `repeats` times} on a "
      "GPU; execution is dense, band (own kernels) or library (batched products).");
}

}  // namespace pyllmc
