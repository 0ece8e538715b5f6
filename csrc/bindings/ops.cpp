// The ops, one by one, on NumPy arrays: for tests and for curious people. Training does not pass
// through here.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "core/gemm.h"
#include "core/random.h"
#include "core/simd.h"
#include "ops/attention/attention.h"
#include "ops/classifier/classifier.h"
#include "ops/embedding/embedding.h"
#include "ops/layernorm/layernorm.h"
#include "ops/linear/linear.h"

namespace py = pybind11;

namespace pyllmc {
namespace {

// A context that owns the workspace of one call.
struct CallContext : Context {
  CallContext(int thread_count, int64_t floats = 0, const std::string& precision_name = "fp32") {
    threads = thread_count;
    precision = precision_of(precision_name);
    if (floats == 0) return;
    memory = allocate(floats * static_cast<int64_t>(sizeof(float)), "workspace");
    workspace = Tensor(reinterpret_cast<float*>(memory.get()), {floats});
  }
  void provide(int64_t floats) {
    memory = allocate(floats * static_cast<int64_t>(sizeof(float)), "workspace");
    workspace = Tensor(reinterpret_cast<float*>(memory.get()), {floats});
  }
  Memory memory;
};

void require_rank(const char* name, const py::array& array, int rank) {
  if (array.ndim() != rank) {
    throw UsageError(message(name, " has ", array.ndim(), " dimensions, expected ", rank));
  }
}

using MaybeArray = std::optional<FloatArray>;

py::object linear_forward_py(const FloatArray& x, const FloatArray& w, const MaybeArray& b,
                             const MaybeArray& residual, bool gelu, const std::string& precision,
                             int threads) {
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  FloatArray y = zeros({x.shape(0), w.shape(0)}), activated;
  LinearForward args = {.x = tensor_of(x), .w = tensor_of(w), .b = {}, .y = mutable_tensor_of(y)};
  if (b) args.b = tensor_of(*b);
  if (residual) args.residual = tensor_of(*residual);
  if (gelu) {
    activated = zeros_like(y);
    args.gelu = mutable_tensor_of(activated);
  }
  CallContext context(threads, 0, precision);
  context.provide(linear_workspace(context, x.shape(0), x.shape(1), w.shape(0), false));
  linear_forward(context, args);
  if (gelu) return py::make_tuple(y, activated);
  return y;
}

py::tuple linear_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& w,
                             int64_t bandwidth, const MaybeArray& activation,
                             const std::string& precision, int threads) {
  require_rank("dy", dy, 2);
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  FloatArray dx = zeros_like(x), dw = zeros_like(w), db = zeros({w.shape(0)});
  const Pattern pattern = Pattern::band(w.shape(0), w.shape(1), bandwidth);
  LinearBackward args = {.dy = tensor_of(dy),
                         .x = tensor_of(x),
                         .w = tensor_of(w),
                         .dx = mutable_tensor_of(dx),
                         .dw = mutable_tensor_of(dw),
                         .db = mutable_tensor_of(db),
                         .pattern = &pattern};
  if (activation) args.activation = tensor_of(*activation);
  CallContext context(threads, 0, precision);
  context.provide(linear_workspace(context, x.shape(0), x.shape(1), w.shape(0), true));
  linear_backward(context, args);
  return py::make_tuple(dx, dw, db);
}

// The band path: the weight is stored as its band, gradients come back in the logical order.
py::object band_forward_py(const FloatArray& x, const FloatArray& w, int64_t bandwidth,
                           const MaybeArray& b, const MaybeArray& residual, bool gelu,
                           const std::string& precision, int threads) {
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  const BandLayout band(Pattern::band(w.shape(0), w.shape(1), bandwidth));
  std::vector<float> stored(static_cast<size_t>(band.floats()));
  band.pack(w.data(), stored.data());
  FloatArray y = zeros({x.shape(0), w.shape(0)}), activated;
  LinearForward args = {.x = tensor_of(x),
                        .w = ConstTensor(stored.data(), {band.floats()}),
                        .b = {},
                        .y = mutable_tensor_of(y),
                        .band = &band};
  if (b) args.b = tensor_of(*b);
  if (residual) args.residual = tensor_of(*residual);
  if (gelu) {
    activated = zeros_like(y);
    args.gelu = mutable_tensor_of(activated);
  }
  CallContext context(threads, 0, precision);
  context.provide(linear_workspace(context, x.shape(0), x.shape(1), w.shape(0), false, &band));
  linear_forward(context, args);
  if (gelu) return py::make_tuple(y, activated);
  return y;
}

py::tuple band_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& w,
                           int64_t bandwidth, const MaybeArray& activation,
                           const std::string& precision, int threads) {
  require_rank("dy", dy, 2);
  require_rank("x", x, 2);
  require_rank("w", w, 2);
  const Pattern pattern = Pattern::band(w.shape(0), w.shape(1), bandwidth);
  const BandLayout band(pattern);
  std::vector<float> stored(static_cast<size_t>(band.floats())), gradient(stored.size());
  band.pack(w.data(), stored.data());
  FloatArray dx = zeros_like(x), dw = zeros_like(w), db = zeros({w.shape(0)});
  LinearBackward args = {.dy = tensor_of(dy),
                         .x = tensor_of(x),
                         .w = ConstTensor(stored.data(), {band.floats()}),
                         .dx = mutable_tensor_of(dx),
                         .dw = Tensor(gradient.data(), {band.floats()}),
                         .db = mutable_tensor_of(db),
                         .pattern = &pattern,
                         .band = &band};
  if (activation) args.activation = tensor_of(*activation);
  CallContext context(threads, 0, precision);
  context.provide(linear_workspace(context, x.shape(0), x.shape(1), w.shape(0), true, &band));
  linear_backward(context, args);
  band.unpack(gradient.data(), dw.mutable_data());
  return py::make_tuple(dx, dw, db);
}

py::tuple layernorm_forward_py(const FloatArray& x, const FloatArray& weight,
                               const FloatArray& bias, int threads) {
  require_rank("x", x, 2);
  FloatArray y = zeros_like(x), mean = zeros({x.shape(0)}), rstd = zeros({x.shape(0)});
  layernorm_forward(CallContext(threads), {.x = tensor_of(x),
                                           .weight = tensor_of(weight),
                                           .bias = tensor_of(bias),
                                           .y = mutable_tensor_of(y),
                                           .mean = mutable_tensor_of(mean),
                                           .rstd = mutable_tensor_of(rstd)});
  return py::make_tuple(y, mean, rstd);
}

py::tuple layernorm_backward_py(const FloatArray& dy, const FloatArray& x, const FloatArray& weight,
                                const FloatArray& mean, const FloatArray& rstd, int threads) {
  require_rank("x", x, 2);
  FloatArray dx = zeros_like(x), dweight = zeros_like(weight), dbias = zeros_like(weight);
  const CallContext context(threads, layernorm_workspace(x.shape(0), x.shape(1)));
  layernorm_backward(context, {.dy = tensor_of(dy),
                               .x = tensor_of(x),
                               .weight = tensor_of(weight),
                               .mean = tensor_of(mean),
                               .rstd = tensor_of(rstd),
                               .dx = mutable_tensor_of(dx),
                               .dweight = mutable_tensor_of(dweight),
                               .dbias = mutable_tensor_of(dbias)});
  return py::make_tuple(dx, dweight, dbias);
}

py::tuple attention_forward_py(const FloatArray& qkv, int64_t heads, int threads) {
  require_rank("qkv", qkv, 3);
  const int64_t B = qkv.shape(0), T = qkv.shape(1), C = qkv.shape(2) / 3;
  FloatArray out = zeros({B, T, C}), lse = zeros({B, heads, T});
  CallContext context(threads);
  context.provide(attention_workspace(context, T, heads));
  attention_forward(context, {.qkv = tensor_of(qkv),
                              .out = mutable_tensor_of(out),
                              .log_sum_exp = mutable_tensor_of(lse)});
  return py::make_tuple(out, lse);
}

FloatArray attention_backward_py(const FloatArray& dout, const FloatArray& qkv,
                                 const FloatArray& out, const FloatArray& lse, int threads) {
  require_rank("qkv", qkv, 3);
  require_rank("out", out, 3);
  require_rank("log_sum_exp", lse, 3);
  FloatArray dqkv = zeros_like(qkv);
  CallContext context(threads);
  context.provide(attention_workspace(context, qkv.shape(1), lse.shape(1)));
  attention_backward(context, {.dout = tensor_of(dout),
                               .out = tensor_of(out),
                               .qkv = tensor_of(qkv),
                               .log_sum_exp = tensor_of(lse),
                               .dqkv = mutable_tensor_of(dqkv)});
  return dqkv;
}

FloatArray embedding_forward_py(const IntArray& tokens, const FloatArray& wte,
                                const FloatArray& wpe, int64_t first_position, int threads) {
  require_rank("tokens", tokens, 2);
  FloatArray x = zeros({tokens.shape(0), tokens.shape(1), wte.shape(1)});
  embedding_forward(CallContext(threads), {.tokens = tokens_of(tokens),
                                           .wte = tensor_of(wte),
                                           .wpe = tensor_of(wpe),
                                           .x = mutable_tensor_of(x),
                                           .first_position = first_position});
  return x;
}

py::tuple embedding_backward_py(const IntArray& tokens, const FloatArray& dx, int64_t vocab,
                                int64_t positions, int threads) {
  require_rank("tokens", tokens, 2);
  require_rank("dx", dx, 3);
  FloatArray dwte = zeros({vocab, dx.shape(2)}), dwpe = zeros({positions, dx.shape(2)});
  embedding_backward(CallContext(threads), {.tokens = tokens_of(tokens),
                                            .dx = tensor_of(dx),
                                            .dwte = mutable_tensor_of(dwte),
                                            .dwpe = mutable_tensor_of(dwpe)});
  return py::make_tuple(dwte, dwpe);
}

py::tuple classifier_py(const FloatArray& x, const FloatArray& wte, const IntArray& targets,
                        int64_t vocab, float scale, bool gradients, const std::string& precision,
                        int threads) {
  require_rank("x", x, 2);
  require_rank("wte", wte, 2);
  ClassifierArgs args = {.x = tensor_of(x),
                         .wte = tensor_of(wte),
                         .targets = tokens_of(targets),
                         .vocab = vocab,
                         .scale = scale};
  FloatArray dx, dwte;
  if (gradients) {
    dx = zeros_like(x);
    dwte = zeros_like(wte);
    args.dx = mutable_tensor_of(dx);
    args.dwte = mutable_tensor_of(dwte);
  }
  CallContext context(threads, 0, precision);
  context.provide(classifier_workspace(context, x.shape(0), x.shape(1), vocab, gradients));
  const Loss loss = classifier(context, args);
  if (!gradients) return py::make_tuple(loss.sum, loss.count);
  return py::make_tuple(loss.sum, loss.count, dx, dwte);
}

template <auto Multiply>
FloatArray gemm_py(const FloatArray& a, const FloatArray& b, bool trans_a, bool trans_b) {
  require_rank("a", a, 2);
  require_rank("b", b, 2);
  const int64_t M = a.shape(trans_a ? 1 : 0), K = a.shape(trans_a ? 0 : 1);
  const int64_t N = b.shape(trans_b ? 0 : 1);
  if (b.shape(trans_b ? 1 : 0) != K) throw UsageError("the inner sizes of a and b differ");
  FloatArray c = zeros({M, N});
  Multiply(static_cast<Trans>(trans_a), static_cast<Trans>(trans_b), M, N, K, a.data(), a.shape(1),
           b.data(), b.shape(1), 0.0f, c.mutable_data(), N);
  return c;
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
  ops.def("linear_forward", linear_forward_py, py::arg("x"), py::arg("w"),
          py::arg("b") = py::none(), py::arg("residual") = py::none(), py::arg("gelu") = false,
          py::arg("precision") = "fp32", py::arg("threads") = 1,
          "y (M, N) = x w^T + b + residual; with gelu=True (y, gelu(y)).");
  ops.def("linear_backward", linear_backward_py, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("bandwidth") = 0, py::arg("activation") = py::none(),
          py::arg("precision") = "fp32", py::arg("threads") = 1,
          "(dx, dw, db); dx is multiplied by gelu'(activation) when it is given.");
  ops.def("band_forward", band_forward_py, py::arg("x"), py::arg("w"), py::arg("bandwidth"),
          py::arg("b") = py::none(), py::arg("residual") = py::none(), py::arg("gelu") = false,
          py::arg("precision") = "fp32", py::arg("threads") = 1,
          "linear_forward with only the band of w stored and multiplied.");
  ops.def("band_backward", band_backward_py, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("bandwidth"), py::arg("activation") = py::none(), py::arg("precision") = "fp32",
          py::arg("threads") = 1, "(dx, dw, db) of the same.");
  ops.def("layernorm_forward", layernorm_forward_py, py::arg("x"), py::arg("weight"),
          py::arg("bias"), py::arg("threads") = 1, "(y, mean, rstd) of rows x (rows, C).");
  ops.def("layernorm_backward", layernorm_backward_py, py::arg("dy"), py::arg("x"),
          py::arg("weight"), py::arg("mean"), py::arg("rstd"), py::arg("threads") = 1,
          "(dx, dweight, dbias)");
  ops.def("attention_forward", attention_forward_py, py::arg("qkv"), py::arg("heads"),
          py::arg("threads") = 1, "(out (B, T, C), log_sum_exp (B, NH, T)) of qkv (B, T, 3C).");
  ops.def("attention_backward", attention_backward_py, py::arg("dout"), py::arg("qkv"),
          py::arg("out"), py::arg("log_sum_exp"), py::arg("threads") = 1, "dqkv (B, T, 3C)");
  ops.def("embedding_forward", embedding_forward_py, py::arg("tokens"), py::arg("wte"),
          py::arg("wpe"), py::arg("first_position") = 0, py::arg("threads") = 1, "x (B, T, C)");
  ops.def("embedding_backward", embedding_backward_py, py::arg("tokens"), py::arg("dx"),
          py::arg("vocab"), py::arg("positions"), py::arg("threads") = 1, "(dwte, dwpe)");
  ops.def("classifier", classifier_py, py::arg("x"), py::arg("wte"), py::arg("targets"),
          py::arg("vocab"), py::arg("scale") = 1.0f, py::arg("gradients") = true,
          py::arg("precision") = "fp32", py::arg("threads") = 1,
          "(sum, count) or (sum, count, dx, dwte) of scale * sum.");
  ops.def("gemm", gemm_py<gemm>, py::arg("a"), py::arg("b"), py::arg("trans_a") = false,
          py::arg("trans_b") = false, "op(a) op(b) with the library in use.");
  ops.def("gemm_builtin", gemm_py<gemm_builtin>, py::arg("a"), py::arg("b"),
          py::arg("trans_a") = false, py::arg("trans_b") = false,
          "op(a) op(b) with the built-in kernel.");
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
