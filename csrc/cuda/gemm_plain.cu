#include "cuda/gemm.h"
#include "cuda/kernel_tools.cuh"

namespace pyllmc::cuda {
namespace {

constexpr int kThreads = 256;

// Elements from one row, column or matrix of a batch to the next.
template <class T>
struct Strided {
  const T* data;
  int64_t row, col, stride;
};

template <class T>
Strided<T> strided(const GemmOperand& operand) {
  const auto* const data = static_cast<const T*>(operand.data);
  if (operand.transposed) return {data, 1, operand.ld, operand.stride};
  return {data, operand.ld, 1, operand.stride};
}

// A thread makes one element, its sum in the order of K.
template <class T, class Out>
__global__ void __launch_bounds__(kThreads)
    gemm_kernel(Strided<T> a, Strided<T> b, Strided<Out> add, Out* out, int64_t M, int64_t N,
                int64_t K, int64_t batch) {
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t col = item % N, row = item / N % M, n = item / N / M;
  if (n >= batch) return;
  const T* x = a.data + n * a.stride + row * a.row;
  const T* y = b.data + n * b.stride + col * b.col;
  float sum = 0;
  for (int64_t k = 0; k < K; ++k) sum += to_float(x[k * a.col]) * to_float(y[k * b.row]);
  const int64_t at = n * add.stride + row * add.row + col;
  if (add.data) sum += to_float(add.data[at]);
  out[at] = from_float<Out>(sum);
}

template <class T, class Out>
void run(const Context& context, const Gemm& g) {
  const Strided<Out> add = {static_cast<const Out*>(g.add), g.ld, 1, g.stride};
  launch("a product", gemm_kernel<T, Out>,
         static_cast<unsigned>(ceil_div(g.batch * g.M * g.N, kThreads)), kThreads, 0,
         context.stream, strided<T>(g.a), strided<T>(g.b), add, static_cast<Out*>(g.out), g.M, g.N,
         g.K, g.batch);
}

}  // namespace

void plain_gemm(const Context& context, const Gemm& g) {
  if (g.type == DType::fp32) return run<float, float>(context, g);
  g.out_type == DType::bf16 ? run<bf16, bf16>(context, g) : run<bf16, float>(context, g);
}

}  // namespace pyllmc::cuda
