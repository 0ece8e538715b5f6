// The ops, one by one, on NumPy arrays: for tests and for curious people. Training does not pass
// through here.
#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/op_call.h"
#include "core/random.h"
#include "core/simd.h"
#include "ops/attention/attention.h"
#include "ops/classifier/classifier.h"
#include "ops/embedding/embedding.h"
#include "ops/layernorm/layernorm.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

py::tuple layernorm_forward_py(const FloatArray& x, const FloatArray& weight,
                               const FloatArray& bias, const std::string& precision, int threads,
                               const std::string& device) {
  require_rank("x", x, 2);
  FloatArray y = zeros_like(x), mean = zeros({x.shape(0)}), rstd = zeros({x.shape(0)});
  OpCall call(threads, device, precision);
  layernorm_forward(call, {.x = call.in(x),
                           .weight = call.in(weight),
                           .bias = call.in(bias),
                           .y = call.out_activation(y),
                           .mean = call.out(mean),
                           .rstd = call.out(rstd)});
  call.finish();
  return py::make_tuple(y, mean, rstd);
}

py::tuple layernorm_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& weight,
                                const FloatArray& mean, const FloatArray& rstd,
                                const std::string& precision, int threads,
                                const std::string& device) {
  require_rank("x", x, 2);
  FloatArray dx = zeros_like(x), dweight = zeros_like(weight), dbias = zeros_like(weight);
  OpCall call(threads, device, precision);
  call.provide(layernorm_workspace(call, x.shape(0), x.shape(1)));
  FloatArray copy = zeros_like(x);
  layernorm_backward(
      call, {.dy = call.activation(dy),
             .x = call.in(x),
             .weight = call.in(weight),
             .mean = call.in(mean),
             .rstd = call.in(rstd),
             .dx = call.out(dx),
             .dweight = call.out(dweight),
             .dbias = call.out(dbias),
             .dx_copy = call.activations() == DType::fp32 ? Tensor() : call.out_activation(copy)});
  call.finish();
  return py::make_tuple(dx, dweight, dbias);
}

py::tuple attention_forward_py(const FloatArray& qkv, int64_t heads, const std::string& precision,
                               int threads, const std::string& device) {
  require_rank("qkv", qkv, 3);
  const int64_t B = qkv.shape(0), T = qkv.shape(1), C = qkv.shape(2) / 3;
  FloatArray out = zeros({B, T, C}), lse = zeros({B, heads, T});
  OpCall call(threads, device, precision);
  call.provide(attention_workspace(call, B, T, C, heads));
  attention_forward(
      call,
      {.qkv = call.activation(qkv), .out = call.out_activation(out), .log_sum_exp = call.out(lse)});
  call.finish();
  return py::make_tuple(out, lse);
}

FloatArray attention_backward_py(const FloatArray& dout, const FloatArray& qkv,
                                 const FloatArray& out, const FloatArray& lse,
                                 const std::string& precision, int threads,
                                 const std::string& device) {
  require_rank("qkv", qkv, 3);
  require_rank("out", out, 3);
  require_rank("log_sum_exp", lse, 3);
  FloatArray dqkv = zeros_like(qkv);
  OpCall call(threads, device, precision);
  call.provide(attention_workspace(call, out.shape(0), out.shape(1), out.shape(2), lse.shape(1)));
  attention_backward(call, {.dout = call.activation(dout),
                            .out = call.activation(out),
                            .qkv = call.activation(qkv),
                            .log_sum_exp = call.in(lse),
                            .dqkv = call.out_activation(dqkv)});
  call.finish();
  return dqkv;
}

// Positions 0 to n - 1 one after another against an empty cache.
FloatArray attention_decode_py(const FloatArray& qkv, int64_t heads, int64_t capacity,
                               const std::string& precision, int threads,
                               const std::string& device) {
  require_rank("qkv", qkv, 2);
  const int64_t n = qkv.shape(0), C = qkv.shape(1) / 3;
  if (n > capacity) throw UsageError(message(n, " positions in a cache of ", capacity));
  OpCall call(threads, device, precision);
  call.provide(attention_workspace(call, 1, capacity, C, heads));
  FloatArray keys = zeros({capacity, C}), values = zeros({capacity, C}), all = zeros({n, C});
  const Tensor cached_keys = call.out_activation(keys), cached_values = call.out_activation(values);
  for (int64_t i = 0; i < n; ++i) {
    FloatArray row = zeros({1, 3 * C}), out = zeros({1, C});
    std::copy_n(qkv.data() + i * 3 * C, 3 * C, row.mutable_data());
    const auto position = static_cast<int32_t>(i);
    attention_decode(call, {.qkv = call.activation(row),
                            .keys = cached_keys,
                            .values = cached_values,
                            .position = call.send_bytes(&position, 1),
                            .out = call.out_activation(out),
                            .heads = heads});
    call.finish();
    std::copy_n(out.data(), C, all.mutable_data() + i * C);
  }
  return all;
}

FloatArray embedding_forward_py(const py::object& token_array, const FloatArray& wte,
                                const FloatArray& wpe, int32_t first_position, int threads,
                                const std::string& device) {
  require_rank("wte", wte, 2);
  require_rank("wpe", wpe, 2);
  const IntArray tokens = token_ids(token_array, 0, wte.shape(0));
  require_rank("tokens", tokens, 2);
  require_positions(first_position, tokens.shape(1), wpe.shape(0));
  FloatArray x = zeros({tokens.shape(0), tokens.shape(1), wte.shape(1)});
  OpCall call(threads, device);
  embedding_forward(call, {.tokens = call.in(tokens),
                           .wte = call.in(wte),
                           .wpe = call.in(wpe),
                           .x = call.out(x),
                           .first_position = call.send_bytes(&first_position, 1)});
  call.finish();
  return x;
}

py::tuple embedding_backward_py(const py::object& token_array, const FloatArray& dx, int64_t vocab,
                                int64_t positions, int threads, const std::string& device) {
  require_rank("dx", dx, 3);
  const IntArray tokens = token_ids(token_array, 0, vocab);
  require_rank("tokens", tokens, 2);
  FloatArray dwte = zeros({vocab, dx.shape(2)}), dwpe = zeros({positions, dx.shape(2)});
  IntArray order(tokens.size());
  std::vector<int32_t> places(static_cast<size_t>(vocab) + 1);
  order_by_token(tokens.data(), tokens.size(), places, order.mutable_data());
  OpCall call(threads, device);
  embedding_backward(call, {.tokens = call.in(tokens),
                            .dx = call.in(dx),
                            .dwte = call.out(dwte),
                            .dwpe = call.out(dwpe),
                            .order = call.in(order)});
  call.finish();
  return py::make_tuple(dwte, dwpe);
}

py::tuple classifier_py(const FloatArray& x, const FloatArray& wte, const py::object& target_array,
                        int64_t vocab, float scale, bool gradients, const std::string& precision,
                        int threads, const std::string& device) {
  require_rank("x", x, 2);
  require_rank("wte", wte, 2);
  require_between("vocab", vocab, 1, wte.shape(0));
  const IntArray targets = token_ids(target_array, INT32_MIN, vocab);
  OpCall call(threads, device, precision);
  Loss loss;
  ClassifierArgs args = {
      .x = call.activation(x),
      .wte = call.in(wte),
      .targets = call.in(targets),
      .vocab = vocab,
      .loss = call.send_bytes(&loss, 1),
      .wte_bf16 = {call.send_bf16(wte.data(), wte.size()), {wte.shape(0), wte.shape(1)}}};
  FloatArray dx, dwte;
  if (gradients) {
    dx = zeros_like(x);
    dwte = zeros_like(wte);
    args.scale = call.send_bytes(&scale, 1);
    args.dx = call.out_activation(dx);
    args.dwte = call.out(dwte);
  }
  call.provide(classifier_workspace(call, x.shape(0), x.shape(1), vocab, gradients));
  classifier(call, args);
  call.finish();
  call.receive_bytes(args.loss, &loss, 1);
  if (!gradients) return py::make_tuple(loss.sum, loss.count);
  return py::make_tuple(loss.sum, loss.count, dx, dwte);
}

PYLLMC_SIMD void exp_all(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store16(x + i, exp16(load16(x + i)));
}
PYLLMC_SIMD void gelu_all(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store16(x + i, gelu16(load16(x + i)));
}
PYLLMC_SIMD void gelu_derivative_all(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store16(x + i, gelu_derivative16(load16(x + i)));
}

template <auto Function>
FloatArray elementwise_py(const FloatArray& x) {
  const int64_t n = x.size(), padded = (n + kLanes - 1) / kLanes * kLanes;
  std::vector<float> values(static_cast<size_t>(padded));
  std::copy_n(x.data(), n, values.begin());
  Function(values.data(), padded);
  FloatArray y = zeros_like(x);
  std::copy_n(values.begin(), n, y.mutable_data());
  return y;
}

}  // namespace

void bind_ops(py::module_& m) {
  py::module_ ops = m.def_submodule("ops", "The core's ops on float32 NumPy arrays.");
  bind_linear_ops(ops);
  ops.def("layernorm_forward", layernorm_forward_py, py::arg("x"), py::arg("weight"),
          py::arg("bias"), py::arg("precision") = "fp32", py::arg("threads") = 1,
          py::arg("device") = "cpu", "(y, mean, rstd) of rows x (rows, C).");
  ops.def("layernorm_backward", layernorm_backward_py, py::arg("dy"), py::arg("x"),
          py::arg("weight"), py::arg("mean"), py::arg("rstd"), py::arg("precision") = "fp32",
          py::arg("threads") = 1, py::arg("device") = "cpu", "(dx, dweight, dbias)");
  ops.def("attention_forward", attention_forward_py, py::arg("qkv"), py::arg("heads"),
          py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("device") = "cpu",
          "(out (B, T, C), log_sum_exp (B, NH, T)) of qkv (B, T, 3C).");
  ops.def("attention_backward", attention_backward_py, py::arg("dout"), py::arg("qkv"),
          py::arg("out"), py::arg("log_sum_exp"), py::arg("precision") = "fp32",
          py::arg("threads") = 1, py::arg("device") = "cpu", "dqkv (B, T, 3C)");
  ops.def("attention_decode", attention_decode_py, py::arg("qkv"), py::arg("heads"),
          py::arg("capacity"), py::arg("precision") = "fp32", py::arg("threads") = 1,
          py::arg("device") = "cpu",
          "out (n, C) of qkv (n, 3C), one position after another against a cache.");
  ops.def("embedding_forward", embedding_forward_py, py::arg("tokens"), py::arg("wte"),
          py::arg("wpe"), py::arg("first_position") = 0, py::arg("threads") = 1,
          py::arg("device") = "cpu", "x (B, T, C)");
  ops.def("embedding_backward", embedding_backward_py, py::arg("tokens"), py::arg("dx"),
          py::arg("vocab"), py::arg("positions"), py::arg("threads") = 1, py::arg("device") = "cpu",
          "(dwte, dwpe)");
  ops.def("classifier", classifier_py, py::arg("x"), py::arg("wte"), py::arg("targets"),
          py::arg("vocab"), py::arg("scale") = 1.0f, py::arg("gradients") = true,
          py::arg("precision") = "fp32", py::arg("threads") = 1, py::arg("device") = "cpu",
          "(sum, count) or (sum, count, dx, dwte) of scale * sum.");
  ops.def("exp", elementwise_py<exp_all>, py::arg("x"));
  ops.def("gelu", elementwise_py<gelu_all>, py::arg("x"));
  ops.def("gelu_derivative", elementwise_py<gelu_derivative_all>, py::arg("x"));
  ops.def(
      "philox_block",
      [](uint64_t seed, const std::string& name, uint64_t index, uint64_t step) {
        return Philox(seed, name).block(index, step);
      },
      py::arg("seed"), py::arg("name"), py::arg("index"), py::arg("step") = 0,
      "Four 32-bit words.");
  ops.def(
      "philox_normal",
      [](uint64_t seed, const std::string& name, int64_t count, double stddev) {
        FloatArray out = zeros({count});
        Philox(seed, name).fill_normal(out.mutable_data(), count, stddev);
        return out;
      },
      py::arg("seed"), py::arg("name"), py::arg("count"), py::arg("stddev") = 1.0);
  ops.def(
      "philox_uniform",
      [](uint64_t seed, const std::string& name, int64_t count, double low, double high) {
        FloatArray out = zeros({count});
        Philox(seed, name).fill_uniform(out.mutable_data(), count, low, high);
        return out;
      },
      py::arg("seed"), py::arg("name"), py::arg("count"), py::arg("low") = 0.0,
      py::arg("high") = 1.0);
}

}  // namespace pyllmc
