// A chunk's logits are one product, in the activations' type. A block then turns a row of them into
// the gradient in place, and two products make dx and dwte of it. Where the row fits, it is kept in
// shared memory between the two looks at it, so that the logits are read once and written once.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/guard.h"
#include "cuda/kernel_tools.cuh"
#include "ops/classifier/classifier.h"

namespace pyllmc {
namespace {

using namespace cuda;

constexpr int kThreads = 512;
constexpr int64_t kMostLogitBytes = int64_t{1} << 30;  // of a chunk
constexpr int64_t kAlignment = 64;                     // of rows of logits, in elements
constexpr float kLog2e = 1.4426950408889634f;

// How M tokens are cut and how a chunk's logits lie, from the sizes alone.
struct Cut {
  int64_t width;  // columns of a row of logits, V and padding
  int64_t chunk;  // tokens that are worked on together
  Cut(int64_t tokens, int64_t vocab, DType type) {
    width = ceil_div(vocab, kAlignment) * kAlignment;
    const int64_t bytes = width * (type == DType::bf16 ? 2 : 4);
    const int64_t most = std::max<int64_t>(1, kMostLogitBytes / bytes);
    const int64_t even = ceil_div(tokens, ceil_div(tokens, most));
    chunk = std::min(std::min(most, tokens), ceil_div(even, 128) * 128);
  }
};

template <class T>
struct Rows {
  T* logits;  // (rows, width), columns from V on undefined before and 0 after
  const int32_t* targets;
  float* losses;  // 0 where the target is ignored
  int width, vocab;
};

// The largest of some logits and the sum of e^(logit - top).
struct Peak {
  float top, sum;
};
// e^(x - top); 1 where both are the same, infinite or not.
__device__ __forceinline__ float shrink(float x, float top) {
  return x == top ? 1.0f : fast_exp2((x - top) * kLog2e);
}

// Calls use(first column, 16 bytes from there) for the thread's share of a row, some loads ahead.
template <class T, class Use>
__device__ __forceinline__ void each_vector(const T* row, int width, const Use& use) {
  constexpr int kEach = 16 / sizeof(T), kAhead = 4, kStep = kThreads * kEach;
  for (int begin = threadIdx.x * kEach; begin < width; begin += kAhead * kStep) {
    uint4 bits[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i * kStep < width) bits[i] = load_vector<uint4>(row + begin + i * kStep);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i * kStep < width) use(begin + i * kStep, bits[i]);
    }
  }
}

// Bytes of a block's shared memory before the row that it may keep.
constexpr size_t kScratchBytes = 2 * kWarp * sizeof(float);

// A block a row. kGradients: logits become scale (softmax - onehot).
template <class T, bool kGradients, bool kKeepsRow>
__global__ void __launch_bounds__(kThreads)
    row_kernel(Rows<T> rows, const float* __restrict__ scale_at) {
  constexpr int kEach = 16 / sizeof(T);
  const int vocab = rows.vocab;
  T* row = rows.logits + int64_t{blockIdx.x} * rows.width;
  const int target = rows.targets[blockIdx.x];
  if (target < 0) {
    if constexpr (kGradients) {
      for (int c = threadIdx.x * kEach; c < rows.width; c += kThreads * kEach) {
        store_vector(row + c, make_uint4(0, 0, 0, 0));
      }
    }
    if (threadIdx.x == 0) rows.losses[blockIdx.x] = 0;
    return;
  }
  auto* scratch = shared_memory<float>();  // (2, kWarp)
  T* kept = reinterpret_cast<T*>(scratch + 2 * kWarp);
  const float target_logit = to_float(row[target]);

  Peak peak = {-INFINITY, 0};
  each_vector(row, rows.width, [&](int c, const uint4& bits) {
    if constexpr (kKeepsRow) store_vector(kept + c, bits);
    if (c >= vocab) return;
    float x[kEach];
    unpack(bits, x);
    if (c + kEach > vocab) {
#pragma unroll
      for (int i = 1; i < kEach; ++i) x[i] = c + i < vocab ? x[i] : -INFINITY;
    }
    float top = peak.top, sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) top = fmaxf(top, x[i]);
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += fast_exp2((x[i] - top) * kLog2e);
    peak = {top, peak.sum * shrink(peak.top, top) + sum};
  });
  const float top = block_max(peak.top, scratch);
  const float sum = block_sum(peak.sum * shrink(peak.top, top), scratch + kWarp);
  const float log_sum_exp = top + logf(sum);
  if (threadIdx.x == 0) rows.losses[blockIdx.x] = log_sum_exp - target_logit;
  if constexpr (kGradients) {
    const float scale = *scale_at;
    each_vector(kKeepsRow ? kept : row, rows.width, [&](int c, const uint4& bits) {
      float x[kEach];
      unpack(bits, x);
#pragma unroll
      for (int i = 0; i < kEach; ++i) x[i] = scale * fast_exp2((x[i] - log_sum_exp) * kLog2e);
      if (c + kEach > vocab || (c <= target && target < c + kEach)) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          if (c + i == target) x[i] -= scale;
          if (c + i >= vocab) x[i] = 0;
        }
      }
      store(row + c, x);
    });
  }
}

constexpr int kSumThreads = 1024;

// Adds the rows' losses, in an order that depends on their number alone.
__global__ void __launch_bounds__(kSumThreads)
    loss_kernel(const float* __restrict__ losses, const int32_t* __restrict__ targets, int64_t rows,
                Loss* loss) {
  double sum = 0, count = 0;
  for (int64_t i = threadIdx.x; i < rows; i += kSumThreads) {
    sum += losses[i];
    count += targets[i] >= 0;
  }
  sum = block_sum(sum, shared_memory<double>());
  count = block_sum(count, shared_memory<double>());
  if (threadIdx.x == 0) {
    loss->sum += sum;
    loss->count += static_cast<int64_t>(count);
  }
}

template <class T>
void run_rows(const Context& context, const ClassifierArgs& a, T* logits, int64_t begin,
              int64_t count, int64_t width, float* losses) {
  const Rows<T> rows = {logits, a.targets.data() + begin, losses + begin, static_cast<int>(width),
                        static_cast<int>(a.vocab)};
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(T);
  const bool keeps = a.dx && kScratchBytes + row_bytes <= kMostSharedBytes;
  auto* kernel = keeps  ? row_kernel<T, true, true>
                 : a.dx ? row_kernel<T, true, false>
                        : row_kernel<T, false, false>;
  launch("classifier", kernel, static_cast<unsigned>(count), kThreads,
         kScratchBytes + (keeps ? row_bytes : 0), context.stream, rows, a.scale);
}

// Parts of the workspace, in floats.
struct Parts {
  int64_t logits, losses;
  Parts(const Cut& cut, int64_t tokens, DType type)
      : logits(cut.chunk * cut.width / (type == DType::bf16 ? 2 : 1)),
        losses(ceil_div(tokens, kAlignment) * kAlignment) {}
  int64_t floats() const { return logits + losses + kGemmWorkspaceFloats; }
};

int64_t workspace(const Context& context, int64_t tokens, int64_t, int64_t vocab, bool) {
  if (tokens == 0) return 1;
  const DType type = context.activations();
  return Parts(Cut(tokens, vocab, type), tokens, type).floats();
}

void run(const Context& context, const ClassifierArgs& a) {
  const int64_t M = a.x.dim(0), C = a.x.dim(1);
  if (M == 0) return;
  const DType type = a.x.type();
  const int64_t element = type == DType::bf16 ? 2 : 4;
  const Cut cut(M, a.vocab, type);
  const Parts parts(cut, M, type);
  float* gemm_workspace =
      context.scratch("classifier", workspace(context, M, C, a.vocab, static_cast<bool>(a.dx)));
  float* losses = gemm_workspace + kGemmWorkspaceFloats;
  float* logits = losses + parts.losses;
  const void* wte =
      type == DType::bf16 ? static_cast<const void*>(a.wte_bf16.data()) : a.wte.data();
  // Products of round sizes where wte has the rows for it: their logits count as -inf.
  const int64_t columns = a.wte.dim(0) >= cut.width ? cut.width : a.vocab;
  for (int64_t begin = 0; begin < M; begin += cut.chunk) {
    const int64_t count = std::min(cut.chunk, M - begin);
    const auto rows_at = [&](const float* data) {
      return reinterpret_cast<const char*>(data) + begin * C * element;
    };
    gemm(context,
         {.M = count,
          .N = columns,
          .K = C,
          .type = type,
          .a = {rows_at(a.x.data()), C},
          .b = {wte, C, true},
          .out = logits,
          .ld = cut.width,
          .out_type = type},
         gemm_workspace);
    if (type == DType::bf16) {
      run_rows(context, a, reinterpret_cast<bf16*>(logits), begin, count, cut.width, losses);
    } else {
      run_rows(context, a, logits, begin, count, cut.width, losses);
    }
    if (!a.dx) continue;
    gemm(context,
         {.M = count,
          .N = C,
          .K = columns,
          .type = type,
          .a = {logits, cut.width},
          .b = {wte, C},
          .out = const_cast<char*>(rows_at(a.dx.data())),
          .ld = C,
          .out_type = type},
         gemm_workspace);
    gemm(context,
         {.M = columns,
          .N = C,
          .K = count,
          .type = type,
          .a = {logits, cut.width, true},
          .b = {rows_at(a.x.data()), C},
          .out = a.dwte.data(),
          .ld = C,
          .out_type = DType::fp32,
          .add = a.dwte.data()},
         gemm_workspace);
  }
  launch("classifier, sum of the loss", loss_kernel, 1, kSumThreads, kWarp * sizeof(double),
         context.stream, losses, a.targets.data(), M, a.loss);
}

}  // namespace

extern const ClassifierKernels classifier_cuda = {guarded<run>, guarded<workspace>};

}  // namespace pyllmc
