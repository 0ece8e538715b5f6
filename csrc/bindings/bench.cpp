// Timings made inside C++, for `pyllmc bench`: an op on memory allocated once and filled with
// random numbers, and what the machine itself can do (multiply-adds in registers, copies, reads).
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "core/panels.h"
#include "core/processor.h"
#include "core/random.h"
#include "core/require.h"
#include "core/simd.h"
#include "core/threads.h"
#include "ops/classifier/classifier.h"
#include "ops/linear/linear.h"
#include "sparsity/band_layout.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace py = pybind11;

namespace pyllmc {
namespace {

using Seconds = std::vector<double>;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void require_positive(const char* name, int64_t value) {
  if (value < 1) throw UsageError(message(name, " ", value, " is not possible: 1 or more"));
}

// Seconds of each of `repeats` calls after an untimed one.
template <class Call>
Seconds time_calls(int64_t repeats, const Call& call) {
  call();
  Seconds seconds;
  for (int64_t i = 0; i < repeats; ++i) {
    const double start = now();
    call();
    seconds.push_back(now() - start);
  }
  return seconds;
}

// Floats that live as long as this object.
class Buffer {
 public:
  explicit Buffer(std::initializer_list<int64_t> shape)
      : tensor_(nullptr, shape), memory_(allocate(tensor_.bytes(), "a benchmark")) {
    tensor_ = Tensor(reinterpret_cast<float*>(memory_.get()), shape);
  }
  // Uniform in [-limit, limit).
  Buffer(std::initializer_list<int64_t> shape, const char* name, double limit) : Buffer(shape) {
    Philox(1, name).fill_uniform(tensor_.data(), tensor_.numel(), -limit, limit);
  }
  operator Tensor() const { return tensor_; }
  operator ConstTensor() const { return tensor_; }
  float* data() const { return tensor_.data(); }

 private:
  Tensor tensor_;
  Memory memory_;
};

Context context_of(const std::string& precision, int threads) {
  require_threads(threads);
  Context context;
  context.precision = precision_of(precision);
  require_precision(context.device, context.precision);
  context.threads = threads;
  return context;
}

Pattern pattern_of(int64_t channels, int64_t hidden, const std::string& which, int64_t bandwidth) {
  if (which == "fc1") return Pattern::band(hidden, channels, HiddenAxis::rows, bandwidth);
  if (which == "fc2") return Pattern::band(channels, hidden, HiddenAxis::cols, bandwidth);
  throw UsageError(message("there is no linear layer called '", which, "': use fc1 or fc2"));
}

py::dict bench_linear(int64_t M, int64_t channels, int64_t hidden, const std::string& which,
                      int64_t bandwidth, const std::string& execution, const std::string& precision,
                      int threads, int64_t repeats) {
  require_positive("M", M);
  require_positive("repeats", repeats);
  if (execution != "band" && execution != "mask") {
    throw UsageError(message("there is no execution called '", execution, "': use band or mask"));
  }
  const Pattern pattern = pattern_of(channels, hidden, which, bandwidth);
  const int64_t N = pattern.rows(), K = pattern.cols();
  std::optional<BandLayout> layout;
  if (execution == "band") layout.emplace(pattern);
  const BandLayout* band = layout ? &*layout : nullptr;
  const int64_t floats = band ? band->floats() : N * K;
  Context context = context_of(precision, threads);

  Seconds forward, backward;
  {
    py::gil_scoped_release release;
    const Buffer logical({N, K}, "w", 0.02);
    const Buffer packed({band ? floats : 1}), packed_gradient({band ? floats : 1});
    if (band) band->pack(logical.data(), packed.data());
    const Buffer whole_gradient({band ? 1 : N, K});
    const Buffer x({M, K}, "x", 1.0), dy({M, N}, "dy", 1.0), b({N}, "b", 0.02);
    const Buffer y({M, N}), dx({M, K}), db({N});
    const Buffer workspace({std::max<int64_t>(1, linear_workspace(context, M, K, N, true, band))});
    context.workspace = workspace;
    const LinearForward forward_args = {
        .x = x, .w = band ? packed : logical, .b = b, .y = y, .band = band};
    const LinearBackward backward_args = {.dy = dy,
                                          .x = x,
                                          .w = band ? packed : logical,
                                          .dx = dx,
                                          .dw = band ? packed_gradient : whole_gradient,
                                          .db = db,
                                          .pattern = &pattern,
                                          .band = band};
    // In turn, as training calls them: a pass finds the caches as the other one left them.
    linear_backward(context, backward_args);
    for (int64_t i = 0; i <= repeats; ++i) {
      const double start = now();
      linear_forward(context, forward_args);
      const double middle = now();
      linear_backward(context, backward_args);
      if (i == 0) continue;
      forward.push_back(middle - start);
      backward.push_back(now() - middle);
    }
  }
  py::dict out;
  out["forward"] = forward;
  out["backward"] = backward;
  out["floats"] = floats;
  out["executed"] = band ? band->executed() : 1.0;
  return out;
}

py::dict bench_classifier(int64_t M, int64_t channels, int64_t vocab, const std::string& precision,
                          int threads, int64_t repeats) {
  require_positive("M", M);
  require_positive("channels", channels);
  require_positive("vocab", vocab);
  require_positive("repeats", repeats);
  Context context = context_of(precision, threads);
  Seconds loss, gradients;
  {
    py::gil_scoped_release release;
    const Buffer x({M, channels}, "x", 1.0), wte({vocab, channels}, "wte", 0.02);
    const Buffer dx({M, channels}), dwte({vocab, channels});
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < M; ++i) targets.push_back(static_cast<int32_t>(i * 7919 % vocab));
    const Buffer workspace(
        {std::max<int64_t>(1, classifier_workspace(context, M, channels, vocab, true))});
    context.workspace = workspace;
    const float scale = 1.0f / static_cast<float>(M);
    Loss total;
    ClassifierArgs args = {.x = x,
                           .wte = wte,
                           .targets = Tokens(targets.data(), {M}),
                           .vocab = vocab,
                           .loss = &total,
                           .scale = &scale};
    loss = time_calls(repeats, [&] { classifier(context, args); });
    args.dx = dx;
    args.dwte = dwte;
    gradients = time_calls(repeats, [&] { classifier(context, args); });
  }
  py::dict out;
  out["loss"] = loss;
  out["loss_and_gradients"] = gradients;
  return out;
}

// ---- what the machine can do --------------------------------------------------------------------

constexpr int64_t kRounds = 1 << 14;

// kRounds multiply-adds on each of kChains vectors of 16, which stay in registers: enough
// independent chains to cover the latency of the instruction. Returns something to keep.
template <int kChains>
PYLLMC_INLINE float multiply_add_body() {
  f32x16 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = broadcast(static_cast<float>(i));
  f32x16 scale = broadcast(0.999f), step = broadcast(0.001f);
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * scale + step;
  }
  f32x16 total = sums[0];
  for (int i = 1; i < kChains; ++i) total = total + sums[i];
  return sum16(total);
}

struct Loop {
  const char* name;
  double flop;  // of a call
  float (*run)();
};

constexpr double flop_of(int chains, int products = 1) {
  return 2.0 * static_cast<double>(kRounds * kLanes) * chains * products;
}

// Sixteen registers of four lanes hold three vectors, of eight lanes six, 32 of sixteen lanes 12.
float multiply_add_plain() { return multiply_add_body<3>(); }
#ifdef __x86_64__
PYLLMC_TARGET("arch=x86-64-v3") float multiply_add_avx2() { return multiply_add_body<6>(); }
PYLLMC_TARGET("arch=x86-64-v4") float multiply_add_avx512() { return multiply_add_body<12>(); }

PYLLMC_TARGET("arch=x86-64-v4,avx512bf16") float dot_bf16() {
  constexpr int kChains = 12;
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const auto left = (__m512bh)_mm512_set1_epi32(0x3c003c00);   // 2^-7
  const auto right = (__m512bh)_mm512_set1_epi32(0x3c00bc00);  // 2^-7 and -2^-7
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], left, right);
  }
  __m512 total = sums[0];
  for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, sums[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, total);
  return lanes[0];
}
#endif

// The loop of the instructions that the matrix products of this precision use here.
Loop loop_of(Precision precision) {
  const std::string isa = PanelEngine::get(precision).name();
#ifdef __x86_64__
  if (isa == "avx512-bf16") return {"avx512-bf16", flop_of(12, 2), dot_bf16};
  if (isa == "avx512") return {"avx512", flop_of(12), multiply_add_avx512};
  if (isa == "avx2") return {"avx2", flop_of(6), multiply_add_avx2};
#endif
  return {"plain", flop_of(3), multiply_add_plain};
}

py::dict fma_peak(int threads, double seconds, const std::string& precision) {
  require_threads(threads);
  const Loop loop = loop_of(precision_of(precision));
  double flops = 0;
  {
    py::gil_scoped_release release;
#pragma omp parallel num_threads(threads) reduction(+ : flops)
    {
      volatile float keep = loop.run();
#pragma omp barrier
      const double start = now();
      int64_t calls = 0;
      double elapsed = 0;
      do {
        keep = loop.run();
        ++calls;
        elapsed = now() - start;
      } while (elapsed < seconds);
      flops += static_cast<double>(calls) * loop.flop / elapsed;
      (void)keep;
    }
  }
  py::dict out;
  out["gflops"] = flops / 1e9;
  out["isa"] = loop.name;
  return out;
}

PYLLMC_SIMD float sum_of(const float* data, int64_t count) {
  f32x16 sums[8] = {};
  for (int64_t i = 0; i + 8 * kLanes <= count; i += 8 * kLanes) {
    for (int j = 0; j < 8; ++j) sums[j] = sums[j] + load16(data + i + j * kLanes);
  }
  f32x16 total = sums[0];
  for (int j = 1; j < 8; ++j) total = total + sums[j];
  return sum16(total);
}

// Each thread has its own part of the buffers, a whole number of cache lines.
int64_t floats_per_thread(int threads, int64_t bytes) {
  require_threads(threads);
  constexpr int64_t kStep = 8 * kLanes;
  const int64_t floats = bytes / static_cast<int64_t>(sizeof(float)) / threads / kStep * kStep;
  require_positive("floats a thread", floats);
  return floats;
}

py::dict copy_bandwidth(int threads, int64_t bytes, int64_t repeats) {
  const int64_t part = floats_per_thread(threads, bytes);
  Seconds seconds;
  {
    py::gil_scoped_release release;
    const Buffer from({threads * part}), to({threads * part});
    std::fill_n(from.data(), threads * part, 1.0f);  // untouched pages would all be one
    seconds = time_calls(repeats, [&] {
      parallel_for(threads, threads, [&](int64_t i, int) {
        std::memcpy(to.data() + i * part, from.data() + i * part,
                    static_cast<size_t>(part) * sizeof(float));
      });
    });
  }
  py::dict out;
  out["seconds"] = seconds;
  out["bytes"] = 2 * threads * part * static_cast<int64_t>(sizeof(float));
  return out;
}

py::dict read_bandwidth(int threads, int64_t bytes, int64_t repeats) {
  const int64_t part = floats_per_thread(threads, bytes);
  Seconds seconds;
  {
    py::gil_scoped_release release;
    const Buffer from({threads * part});
    std::fill_n(from.data(), threads * part, 1.0f);
    std::vector<float> sums(static_cast<size_t>(threads));
    seconds = time_calls(repeats, [&] {
      parallel_for(threads, threads, [&](int64_t i, int) {
        sums[static_cast<size_t>(i)] = sum_of(from.data() + i * part, part);
      });
    });
  }
  py::dict out;
  out["seconds"] = seconds;
  out["bytes"] = threads * part * static_cast<int64_t>(sizeof(float));
  return out;
}

}  // namespace

void bind_bench(py::module_& m) {
  py::module_ bench = m.def_submodule("bench", "Timings made inside C++.");
  bench.def("linear", bench_linear, py::arg("M"), py::arg("channels"), py::arg("hidden"),
            py::arg("which"), py::arg("bandwidth") = 0, py::arg("execution") = "mask",
            py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("repeats") = 5,
            "{forward, backward: seconds of each call; floats stored; executed: share of the dense "
            "product}");
  bind_bench_cuda(bench);
  bench.def("classifier", bench_classifier, py::arg("M"), py::arg("channels"), py::arg("vocab"),
            py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("repeats") = 5,
            "{loss, loss_and_gradients: seconds of each call}");
  bench.def("fma_peak", fma_peak, py::arg("threads") = 1, py::arg("seconds") = 0.1,
            py::arg("precision") = "fp32",
            "{gflops, isa} of multiply-adds in registers alone, the threads added up.");
  bench.def("copy_bandwidth", copy_bandwidth, py::arg("threads"), py::arg("bytes"),
            py::arg("repeats") = 3, "{seconds of each copy; bytes read and written by one}");
  bench.def("read_bandwidth", read_bandwidth, py::arg("threads"), py::arg("bytes"),
            py::arg("repeats") = 3, "{seconds of each pass; bytes read by one}");
}

}  // namespace pyllmc
