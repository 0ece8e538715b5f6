// Running a grid, and what the threads of the running block share.
#pragma once

#include <functional>

#include "cuda_runtime.h"

namespace emulation {

// Of a block; compute capabilities 8.6 and 8.9 grant the least of what the project supports.
constexpr size_t kMostSharedBytes = 99 << 10;

constexpr unsigned char kUnwritten = 0xff;  // a NaN in fp32, fp64 and bf16
inline bool untouched(const unsigned char* at, size_t bytes) {
  return *at == kUnwritten && std::memcmp(at, at + 1, bytes - 1) == 0;
}

// What a launch was asked for.
struct Grid {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
};

// Runs `body` once for every thread of every block and checks the guards of device memory. Throws
// Failure.
void run(const Grid& grid, const std::function<void()>& body);

struct Failure {
  char text[600];
};

unsigned char* shared_begin();
// Fails unless [at, at + bytes) lies in the block's shared memory and `at` is aligned to
// `alignment`.
void require_shared(const void* at, size_t bytes, size_t alignment, const char* what);
void require_aligned(const void* at, size_t alignment, const char* what);

// The calling thread's asynchronous copies: shared memory holds NaN until they are waited for.
void begin_copy(void* shared, const void* global, size_t bytes, size_t read);
void commit_copies();
void wait_copies(int groups_left);

// Whether PYLLMC_EMULATION_ORDER asks for another order than the plain one.
bool order_is_turned_round();

// Gives work to a stream: done at once, or recorded while a graph is captured. Failures become the
// last error.
void enqueue(cudaStream_t stream, std::function<void()> work);

// While one exists, device memory can be touched.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};
// Whether all of these bytes belong to one allocation.
bool allocated(const void* at, size_t bytes);
// Fails when something was written around an allocation. Called while its kernel is being run.
void check_guards();

}  // namespace emulation
