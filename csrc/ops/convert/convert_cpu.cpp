#include <algorithm>

#include "core/bf16.h"
#include "core/threads.h"
#include "ops/convert/convert.h"

namespace pyllmc {
namespace {

void run(const Context& context, const Convert& a) {
  constexpr int64_t kBlock = 1 << 16;
  const int64_t n = a.from.numel();
  parallel_for(context.threads, ceil_div(n, kBlock), [&](int64_t block, int) {
    const int64_t begin = block * kBlock, end = std::min(n, begin + kBlock);
    std::transform(a.from.data() + begin, a.from.data() + end, a.to.data() + begin,
                   bf16_from_float);
  });
}

}  // namespace

const ConvertKernels convert_cpu = {run};

}  // namespace pyllmc
