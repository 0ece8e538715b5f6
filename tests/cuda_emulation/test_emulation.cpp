// That the emulation does what the hardware does, and refuses what the hardware would punish.
#include <cstdlib>
#include <numeric>
#include <vector>

#include "../cpp/check.h"
#include "block.h"
#include "cuda/kernel_tools.cuh"

using namespace pyllmc::cuda;

namespace {

// Device memory with the host's copy of it.
template <class T>
struct Array {
  explicit Array(size_t count, T value = {}) : host(count, value) {
    check(cudaMalloc(&device, bytes()), "test");
  }
  ~Array() { cudaFree(device); }
  size_t bytes() const { return host.size() * sizeof(T); }
  void put() { cudaMemcpy(device, host.data(), bytes(), cudaMemcpyHostToDevice); }
  void get() { cudaMemcpy(host.data(), device, bytes(), cudaMemcpyDeviceToHost); }
  std::vector<T> host;
  T* device = nullptr;
};

// The message of the launch's failure, or "".
template <class Kernel, class... Args>
std::string failure(Kernel kernel, dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
  try {
    launch("kernel", kernel, grid, block, shared_bytes, nullptr, args...);
  } catch (const pyllmc::DeviceError& error) {
    return error.what();
  }
  return "";
}

bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

void sum_kernel(const float* x, float* out, int n) {
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
  sum = block_sum(sum, shared_memory<float>());
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

void mma_kernel(const uint16_t* a, const uint16_t* b, float* d) {
  auto* A = shared_memory<uint16_t>();  // (16, 16)
  uint16_t* B = A + 256;                // (16, 8), rows are k
  uint16_t* BT = B + 128;               // (8, 16), rows are n
  const int lane = static_cast<int>(threadIdx.x);
  copy_async(A + 8 * lane, a + 8 * lane);
  if (lane < 16) copy_async(B + 8 * lane, b + 8 * lane);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  for (int i = lane; i < 128; i += 32) BT[i % 8 * 16 + i / 8] = B[i];
  __syncthreads();
  uint32_t fa[4], fb[2], ft[2];
  load_matrices(fa, A + lane % 16 * 16 + lane / 16 * 8);
  load_matrices_transposed(fb, B + lane % 16 * 8);
  load_matrices(ft, BT + lane % 8 * 16 + lane % 16 / 8 * 8);
  if (fb[0] != ft[0] || fb[1] != ft[1]) emulation::fail("two ways to load B differ");
  float sums[4] = {};
  mma_bf16(sums, fa, fb);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

void mma_tf32_kernel(const float* a, const float* b, float* d) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, c = lane % 4;
  const uint32_t fa[4] = {to_tf32(a[g * 8 + c]), to_tf32(a[(g + 8) * 8 + c]),
                          to_tf32(a[g * 8 + c + 4]), to_tf32(a[(g + 8) * 8 + c + 4])};
  const uint32_t fb[2] = {to_tf32(b[c * 8 + g]), to_tf32(b[(c + 4) * 8 + g])};
  float sums[4] = {};
  mma_tf32(sums, fa, fb);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + c * 2 + i % 2] = sums[i];
}

void shared_past_end() { shared_memory<float>()[blockDim.x + threadIdx.x] = 1; }
void shared_unwritten(float* out) { out[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }
void half_barrier() {
  if (threadIdx.x < 16) __syncthreads();
}
void half_shuffle(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
void mixed_shuffle(float* out) {
  out[threadIdx.x] = threadIdx.x < 16 ? __shfl_xor_sync(0xffffffffu, 1.0f, 1)
                                      : __shfl_down_sync(0xffffffffu, 1.0f, 1);
}
void write_past_end(float* out, int n) { out[n + static_cast<int>(threadIdx.x)] = 1; }
void misaligned(const float* x, float* out) {
  out[threadIdx.x] = load_vector<float4>(x + threadIdx.x).x;
}
void no_wait(const float* x, float* out) {
  copy_async(shared_memory<float>() + 4 * threadIdx.x, x + 4 * threadIdx.x);
  copy_commit();
  __syncthreads();
  out[threadIdx.x] = shared_memory<float>()[threadIdx.x];
}
void part_copy(const float* x, float* out) {
  copy_async(shared_memory<float>() + 4 * threadIdx.x, x + 4 * threadIdx.x, 8);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i)
    out[4 * threadIdx.x + i] = shared_memory<float>()[4 * threadIdx.x + i];
}
void copy_of_nothing(const float* x) {
  copy_async(shared_memory<float>() + 4 * threadIdx.x, x + 4 * threadIdx.x, 0);
  copy_commit();
  copy_wait<0>();
}
// Lacks a barrier between the write and the neighbour's read.
void racing(float* out) {
  auto* shared = shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

}  // namespace

TEST(blocks_and_their_sums) {
  constexpr int kRows = 5, n = 333;
  Array<float> x(kRows * n), out(kRows);
  for (size_t i = 0; i < x.host.size(); ++i) x.host[i] = static_cast<float>(i % 97);
  x.put();
  CHECK(failure(sum_kernel, kRows, 128, 32 * sizeof(float), x.device, out.device, n).empty());
  out.get();
  for (size_t r = 0; r < kRows; ++r) {
    const float* row = x.host.data() + r * n;
    CHECK(out.host[r] == std::accumulate(row, row + n, 0.0f));
  }
}

TEST(matrices_of_bf16) {
  Array<uint16_t> a(256), b(128);
  Array<float> d(128);
  std::vector<float> fa(256), fb(128);
  for (size_t i = 0; i < 256; ++i) fa[i] = static_cast<float>(i * 7 % 31) - 15;
  for (size_t i = 0; i < 128; ++i) fb[i] = static_cast<float>(i * 5 % 23) - 11;
  for (size_t i = 0; i < 256; ++i) a.host[i] = pyllmc::bf16_from_float(fa[i]);
  for (size_t i = 0; i < 128; ++i) b.host[i] = pyllmc::bf16_from_float(fb[i]);
  a.put();
  b.put();
  CHECK(failure(mma_kernel, 1, 32, 1024, a.device, b.device, d.device) == "");
  d.get();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      float sum = 0;
      for (size_t k = 0; k < 16; ++k) sum += fa[i * 16 + k] * fb[k * 8 + j];
      CHECK(d.host[i * 8 + j] == sum);
    }
  }
}

TEST(matrices_of_tf32) {
  Array<float> a(128), b(64), d(128);
  for (size_t i = 0; i < 128; ++i) a.host[i] = 1 + static_cast<float>(i) / 512;
  for (size_t i = 0; i < 64; ++i) b.host[i] = 1 - static_cast<float>(i) / 512;
  a.host[0] = 1 + 0x1p-11f;  // a tie: rounds away from 0
  a.put();
  b.put();
  CHECK(failure(mma_tf32_kernel, 1, 32, 0, a.device, b.device, d.device).empty());
  d.get();
  a.host[0] = 1 + 0x1p-10f;
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      float sum = 0;
      for (size_t k = 0; k < 8; ++k) sum += a.host[i * 8 + k] * b.host[k * 8 + j];
      CHECK(d.host[i * 8 + j] == sum);
    }
  }
}

TEST(errors_are_told) {
  Array<float> x(128), out(32);
  CHECK(has(failure(shared_past_end, 1, 32, 128), "outside the launch's 128 bytes"));
  CHECK(has(failure(half_barrier, 1, 32, 0), "16 threads wait at a barrier and 16 have returned"));
  CHECK(
      has(failure(half_shuffle, 1, 32, 0, out.device), "16 of 32 lanes of warp 0 meet in __shfl"));
  CHECK(has(failure(mixed_shuffle, 1, 32, 0, out.device), "meet in __shfl"));
  CHECK(has(failure(write_past_end, 1, 32, 0, out.device, 32), "past the end of an allocation"));
  CHECK(
      has(failure(misaligned, 1, 32, 0, x.device, out.device), "load of 16 bytes at a misaligned"));
  CHECK(has(failure(half_barrier, 1, 33, 0), "33 threads"));
  CHECK(has(failure(half_barrier, 1, 32, 100 << 10), "102400 bytes of shared memory"));
  CHECK(has(failure(half_barrier, 0, 32, 0), "a grid of (0, 1, 1) blocks"));
}

TEST(memory_starts_as_nan) {
  Array<float> x(128), out(32);
  CHECK(failure(shared_unwritten, 1, 32, 128, out.device).empty());
  out.get();
  for (float value : out.host) CHECK(std::isnan(value));
  x.get();
  for (float value : x.host) CHECK(std::isnan(value));
}

TEST(asynchronous_copies) {
  Array<float> x(128, 1.0f), out(128);
  x.put();
  CHECK(failure(no_wait, 1, 32, 512, x.device, out.device).empty());
  out.get();
  for (size_t i = 0; i < 32; ++i) CHECK(std::isnan(out.host[i]));
  CHECK(failure(part_copy, 1, 32, 512, x.device, out.device).empty());
  out.get();
  for (size_t i = 0; i < 128; ++i) CHECK(out.host[i] == (i % 4 < 2 ? 1.0f : 0.0f));
  CHECK(failure(copy_of_nothing, 1, 32, 512, x.device).empty());
  const float* const end = x.device + 4;
  CHECK(failure(copy_of_nothing, 1, 32, 512, end).find("outside every") != std::string::npos);
}

TEST(a_race_shows_when_the_order_is_turned_round) {
  Array<float> first(64), second(64);
  launch("racing", racing, 1, 64, 256, nullptr, first.device);
  setenv("PYLLMC_EMULATION_ORDER", "descending", 1);
  launch("racing", racing, 1, 64, 256, nullptr, second.device);
  unsetenv("PYLLMC_EMULATION_ORDER");
  first.get();
  second.get();
  CHECK(std::memcmp(first.host.data(), second.host.data(), 256) != 0);
}

TEST(graphs) {
  Array<float> x(32, 2.0f), out(1);
  x.put();
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  launch("sum", sum_kernel, 1, 32, 128, stream, x.device, out.device, 32);
  CHECK(cudaStreamSynchronize(stream) != cudaSuccess);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&exec, graph);
  cudaGetLastError();
  for (float value : {2.0f, 3.0f}) {
    x.host.assign(32, value);
    x.put();
    CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
    out.get();
    CHECK(out.host[0] == 32 * value);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

void add_kernel(float* x, float more) {
  if (threadIdx.x == 0) x[0] = 2 * x[0] + more;
}

// x after x = 2 x + 1 on a stream and x = 2 x + 2 on its branch, recorded and played once.
float after_both(bool joined, cudaError_t& ended) {
  Array<float> x(1);
  x.put();
  cudaStream_t stream = nullptr, side = nullptr;
  cudaEvent_t begun = nullptr, done = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&begun, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  cudaEventRecord(begun, stream);
  cudaStreamWaitEvent(side, begun);
  launch("add 2", add_kernel, 1, 32, 0, side, x.device, 2.0f);
  launch("add 1", add_kernel, 1, 32, 0, stream, x.device, 1.0f);
  if (joined) {
    cudaEventRecord(done, side);
    cudaStreamWaitEvent(stream, done);
  }
  cudaGraph_t graph = nullptr;
  ended = cudaStreamEndCapture(stream, &graph);
  cudaGetLastError();
  if (graph) {
    cudaGraphExec_t exec = nullptr;
    cudaGraphInstantiate(&exec, graph);
    cudaGraphLaunch(exec, stream);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
  cudaEventDestroy(done);
  cudaEventDestroy(begun);
  cudaStreamDestroy(side);
  cudaStreamDestroy(stream);
  x.get();
  return x.host[0];
}

TEST(branches) {
  cudaError_t ended = cudaSuccess;
  const float once = after_both(true, ended);
  CHECK(ended == cudaSuccess && once != 0);
  setenv("PYLLMC_EMULATION_ORDER", "descending", 1);
  const float turned = after_both(true, ended);
  CHECK(ended == cudaSuccess && turned != 0);
  CHECK(turned != once);  // both write x: a race
  unsetenv("PYLLMC_EMULATION_ORDER");
  CHECK(after_both(false, ended) == 0);
  CHECK(ended == cudaErrorStreamCaptureUnjoined);
}

TEST(more_memory_than_there_is) {
  setenv("PYLLMC_EMULATION_MEMORY", "1000000", 1);
  void* at = nullptr;
  CHECK(cudaMalloc(&at, 2000000) == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&at, 500000) == cudaSuccess);
  cudaFree(at);
  unsetenv("PYLLMC_EMULATION_MEMORY");
}
