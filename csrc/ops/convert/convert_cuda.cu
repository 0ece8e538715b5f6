#include "cuda/guard.h"
#include "cuda/kernel_tools.cuh"
#include "ops/convert/convert.h"

namespace pyllmc {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kEach = 8;

__global__ void __launch_bounds__(kThreads)
    convert_kernel(const float* __restrict__ from, bf16* __restrict__ to, int64_t n) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kEach;
  if (i + kEach <= n) {
    float x[kEach];
    load(from + i, x);
    store(to + i, x);
  } else {
    for (int64_t j = i; j < n; ++j) to[j] = from_float<bf16>(from[j]);
  }
}

void run(const Context& context, const Convert& a) {
  const int64_t n = a.from.numel();
  if (n == 0) return;
  launch("convert", convert_kernel, static_cast<unsigned>(ceil_div(n, kThreads * kEach)), kThreads,
         0, context.stream, a.from.data(), reinterpret_cast<bf16*>(a.to.data()), n);
}

}  // namespace

extern const ConvertKernels convert_cuda = {guarded<run>};

}  // namespace pyllmc
