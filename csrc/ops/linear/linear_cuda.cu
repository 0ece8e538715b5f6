// Dense linear layers by cuBLASLt, with the epilogue in the product where the library has that, and
// the choice of the band's kernels.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/guard.h"
#include "cuda/side_stream.h"
#include "ops/linear/linear_band_cuda.cuh"
#include "ops/linear/linear_few_rows_cuda.h"
#include "ops/linear/linear_parts_cuda.h"

namespace pyllmc::cuda {
namespace {

constexpr int kThreads = 256;

// A warp a row, a lane kEach columns.
template <class T, class Out, int kEach>
__global__ void __launch_bounds__(kThreads) finish_kernel(const Finish f, const T* sums) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int col = static_cast<int>(blockIdx.y * kWarp + threadIdx.x % kWarp) * kEach;
  if (row >= f.M || col >= f.N) return;
  float value[kEach];
  load(sums + row * f.N + col, value);
  finish_values<Out>(f, row, col, value);
}

template <class T, class Out>
void finish(const Context& context, const Finish& f, const T* sums) {
  const bool wide = f.N % 4 == 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(f.M, kThreads / kWarp)),
                  static_cast<unsigned>(ceil_div(f.N, kWarp * (wide ? 4 : 1))));
  launch("a linear layer's epilogue", wide ? finish_kernel<T, Out, 4> : finish_kernel<T, Out, 1>,
         grid, dim3(kThreads), 0, context.stream, f, sums);
}

// The rest of the epilogue of what a product left in f.out.
void finish(const Context& context, const Finish& f) {
  f.is_bf16 ? finish<bf16, bf16>(context, f, static_cast<const bf16*>(f.out))
            : finish<float, float>(context, f, static_cast<const float*>(f.out));
}

// A thread sets to 0 what its word of 32 entries does not keep.
__global__ void __launch_bounds__(kThreads)
    mask_kernel(const uint32_t* kept, int64_t words, int64_t count, float* dw) {
  const int64_t word = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (word >= words) return;
  const uint32_t bits = kept[word];
  for (int i = 0; i < 32; ++i) {
    const int64_t at = word * 32 + i;
    if (at < count && (bits >> i & 1) == 0) dw[at] = 0;
  }
}

bool is_bf16(ConstTensor x) { return x.type() == DType::bf16; }

const void* weight_of(ConstTensor x, ConstTensor w, TensorOf<const uint16_t> w_bf16) {
  return is_bf16(x) ? static_cast<const void*>(w_bf16.data()) : w.data();
}

// The library does not say how exact its GELU is: good enough for bf16, not for fp32.
bool gelu_fuses(ConstTensor x, ConstTensor gelu) { return !gelu || is_bf16(x); }

void dense_forward(const Context& context, const LinearForward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.y.dim(1);
  float* const workspace = context.scratch("linear", kGemmWorkspaceFloats);
  const Gemm plain = {.M = M,
                      .N = N,
                      .K = K,
                      .type = a.x.type(),
                      .a = {a.x.data(), K},
                      .b = {weight_of(a.x, a.w, a.w_bf16), K, true},
                      .out = a.y.data(),
                      .ld = N,
                      .out_type = a.y.type(),
                      .add = a.residual.data()};
  if (!a.b && !a.gelu) return gemm(context, plain, workspace);
  Gemm fused = plain;
  fused.epilogue = GemmEpilogue::bias;
  if (a.b) {
    fused.bias = is_bf16(a.y) ? static_cast<const void*>(a.b_bf16.data()) : a.b.data();
  }
  if (a.gelu) {
    fused.epilogue = GemmEpilogue::gelu;
    fused.out = a.gelu.data();
    fused.aux = a.y.data();
  }
  if (gelu_fuses(a.x, a.gelu) && try_gemm(context, fused, workspace)) return;
  gemm(context, plain, workspace);
  Finish rest = finish_of(a);
  rest.residual = nullptr;  // the product added it
  finish(context, rest);
}

// Whether dx (M, K) is so small that it leaves multiprocessors idle, two waves of its tiles at
// most: then dw and db are made beside it.
bool leaves_room(int64_t M, int64_t K) {
  constexpr int64_t kTile = 128, kTiles = 264;
  return ceil_div(M, kTile) * ceil_div(K, kTile) <= kTiles;
}

// make_gradients(context), then make_dx() on the caller's context: beside it, or after it.
template <class MakeGradients, class MakeDx>
void backward_both(const Context& context, bool beside, const MakeGradients& make_gradients,
                   const MakeDx& make_dx) {
  if (!beside) {
    make_gradients(context);
    return make_dx();
  }
  SideStream side(context);
  make_gradients(side.context());
  make_dx();
  side.join();
}

void dense_gradients(const Context& context, const LinearBackward& a, float* workspace) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.dy.dim(1);
  gemm(context,
       {.M = N,
        .N = K,
        .K = M,
        .type = a.x.type(),
        .a = {a.dy.data(), N, true},
        .b = {a.x.data(), K},
        .out = a.dw.data(),
        .ld = K,
        .out_type = DType::fp32,
        .add = a.dw.data()},
       workspace);
  if (a.kept) {
    const int64_t words = a.kept.numel();
    launch("masking a gradient", mask_kernel,
           dim3(static_cast<unsigned>(ceil_div(words, kThreads))), dim3(kThreads), 0,
           context.stream, a.kept.data(), words, N * K, a.dw.data());
  }
  if (a.db) add_column_sums(context, a.dy, a.db, workspace);
}

void dense_dx(const Context& context, const LinearBackward& a, float* workspace) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.dy.dim(1);
  Gemm product = {.M = M,
                  .N = K,
                  .K = N,
                  .type = a.x.type(),
                  .a = {a.dy.data(), N},
                  .b = {weight_of(a.x, a.w, a.w_bf16), K},
                  .out = a.dx.data(),
                  .ld = K,
                  .out_type = a.dx.type()};
  if (!a.activation) return gemm(context, product, workspace);
  Gemm fused = product;
  fused.epilogue = GemmEpilogue::gelu_derivative;
  fused.aux = const_cast<float*>(a.activation.data());  // read only
  if (gelu_fuses(a.x, a.activation) && try_gemm(context, fused, workspace)) return;
  gemm(context, product, workspace);
  finish(context, finish_of(a));
}

// The library's own for dx, then what dw and db need.
int64_t dense_backward_workspace(int64_t M, int64_t K, int64_t N) {
  const int64_t gradients = std::max(kGemmWorkspaceFloats, column_sums_workspace(M, N));
  return leaves_room(M, K) ? kGemmWorkspaceFloats + gradients : gradients;
}

void dense_backward(const Context& context, const LinearBackward& a) {
  const int64_t M = a.x.dim(0), K = a.x.dim(1), N = a.dy.dim(1);
  const bool beside = leaves_room(M, K);
  float* const workspace = context.scratch("linear", dense_backward_workspace(M, K, N));
  float* const apart = workspace + (beside ? kGemmWorkspaceFloats : 0);
  backward_both(
      context, beside, [&](const Context& side) { dense_gradients(side, a, apart); },
      [&] { dense_dx(context, a, workspace); });
}

// Whether the tensor-core kernels take this band.
bool in_bf16(const Context& context, const BandLayout& band) {
  return context.precision == Precision::bf16 && have_units(band);
}
bool gradient_in_bf16(const Context& context, const BandLayout& band) {
  return in_bf16(context, band) && band_gradient_fits(band);
}

void multiply(const Context& context, const BandProduct& product) {
  in_bf16(context, *product.layout) ? band_product_bf16(context, product)
                                    : band_product_plain(context, product);
}

int64_t band_workspace(const Context& context, int64_t M, int64_t N, const BandLayout& band,
                       bool by_library) {
  if (by_library) {
    return std::max(band_workspace_by_library(band, M), column_sums_workspace(M, N));
  }
  const int64_t gradient = gradient_in_bf16(context, band) ? band_gradient_workspace_bf16(band, M)
                                                           : band_gradient_workspace_plain(band, M);
  return std::max(gradient, column_sums_workspace(M, N));
}

void band_backward(const Context& context, const LinearBackward& a) {
  const BandLayout& band = *a.band;
  const bool up = band.hidden_is_rows();
  const bool tensor_cores = !a.by_library && gradient_in_bf16(context, band);
  const int64_t M = a.x.dim(0), N = a.dy.dim(1);
  float* const workspace =
      context.scratch("linear", band_workspace(context, M, N, band, a.by_library));
  const bool sums_bias = tensor_cores && up && a.db;
  const BandGradient gradient = {.residual = up ? a.x.data() : a.dy.data(),
                                 .hidden = up ? a.dy.data() : a.x.data(),
                                 .layout = a.band,
                                 .band = a.band_table,
                                 .M = M,
                                 .dw = a.dw.data(),
                                 .db = sums_bias ? a.db.data() : nullptr,
                                 .workspace = workspace};
  const BandProduct product = {.x = a.dy.data(),
                               .w = weight_of(a.x, a.w, a.w_bf16),
                               .layout = a.band,
                               .band = a.band_table,
                               .finish = finish_of(a),
                               .expands = !up};
  if (a.by_library) {
    band_gradient_by_library(context, gradient, a.x.type());
    if (a.db) add_column_sums(context, a.dy, a.db, workspace);
    return band_product_by_library(context, product, a.x.type(), workspace);
  }
  // The product needs no workspace.
  const auto make_gradients = [&](const Context& side) {
    tensor_cores ? band_gradient_bf16(side, gradient) : band_gradient_plain(side, gradient);
    if (a.db && !sums_bias) add_column_sums(side, a.dy, a.db, workspace);
  };
  backward_both(context, leaves_room(M, a.x.dim(1)), make_gradients,
                [&] { multiply(context, product); });
}

void forward(const Context& context, const LinearForward& a) {
  const int64_t M = a.x.dim(0), N = a.y.dim(1);
  if (M <= kFewRowsCuda && !a.by_library) return few_rows(context, a);
  if (!a.band) return dense_forward(context, a);
  const BandProduct product = {.x = a.x.data(),
                               .w = weight_of(a.x, a.w, a.w_bf16),
                               .layout = a.band,
                               .band = a.band_table,
                               .finish = finish_of(a),
                               .expands = a.band->hidden_is_rows()};
  if (!a.by_library) return multiply(context, product);
  float* const workspace = context.scratch("linear", band_workspace(context, M, N, *a.band, true));
  band_product_by_library(context, product, a.x.type(), workspace);
}

void backward(const Context& context, const LinearBackward& a) {
  a.band ? band_backward(context, a) : dense_backward(context, a);
}

int64_t workspace(const Context& context, int64_t M, int64_t K, int64_t N, bool gradients,
                  const BandLayout* band, bool by_library) {
  if (band) return gradients || by_library ? band_workspace(context, M, N, *band, by_library) : 0;
  if (gradients) return dense_backward_workspace(M, K, N);
  return M <= kFewRowsCuda ? 0 : kGemmWorkspaceFloats;
}

}  // namespace

void finish_sums(const Context& context, const Finish& f, const float* sums) {
  f.is_bf16 ? finish<float, bf16>(context, f, sums) : finish<float, float>(context, f, sums);
}

}  // namespace pyllmc::cuda

namespace pyllmc {

extern const LinearKernels linear_cuda;
const LinearKernels linear_cuda = {cuda::guarded<cuda::forward>, cuda::guarded<cuda::backward>,
                                   cuda::guarded<cuda::workspace>};

}  // namespace pyllmc
