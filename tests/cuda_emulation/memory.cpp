// Device memory: one region of the address space, closed to the host but while the device works.
// Every allocation has guard zones around it; all of it starts as NaN.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "block.h"

namespace emulation {
namespace {

constexpr size_t kRegionBytes = size_t{64} << 30;
constexpr size_t kGuardBytes = 1024;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises

struct Allocation {
  size_t bytes;      // asked for
  size_t footprint;  // with guards and rounding
};

struct Region {
  unsigned char* base = nullptr;
  size_t top = 0;  // what lies below has been used
  size_t used = 0;
  std::map<unsigned char*, Allocation> live;  // by the address given out
  std::map<unsigned char*, size_t> released;  // bytes by address; no two of them touch
  int accesses = 0;
};

Region& region() {
  static Region* one = new Region;
  return *one;
}

struct sigaction previous_action;

// Says what happened and lets whoever came before say the rest.
void on_fault(int, siginfo_t* info, void*) {
  const auto* at = static_cast<const unsigned char*>(info->si_addr);
  if (at >= region().base && at < region().base + kRegionBytes) {
    static const char text[] = "CUDA emulation: the host touched device memory\n";
    [[maybe_unused]] const ssize_t written = write(2, text, sizeof text - 1);
  }
  sigaction(SIGSEGV, &previous_action, nullptr);
}

void open_region() {
  Region& r = region();
  if (r.base) return;
  void* at =
      mmap(nullptr, kRegionBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) std::abort();
  r.base = static_cast<unsigned char*>(at);
  // Opening and closing large memory is a matter of few large pages.
  madvise(at, kRegionBytes, MADV_HUGEPAGE);
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous_action);
}

size_t round_up(size_t bytes) {
  constexpr size_t kLargePage = size_t{2} << 20;
  return (bytes + kLargePage - 1) / kLargePage * kLargePage;
}

size_t capacity() {
  const char* text = std::getenv("PYLLMC_EMULATION_MEMORY");
  return text ? std::strtoull(text, nullptr, 10) : size_t{4} << 30;
}

// Memory for a footprint, from what was released or from above the top.
unsigned char* take(size_t bytes) {
  Region& r = region();
  for (auto found = r.released.begin(); found != r.released.end(); ++found) {
    const auto [at, size] = *found;
    if (size < bytes) continue;
    r.released.erase(found);
    if (size > bytes) r.released[at + bytes] = size - bytes;
    return at;
  }
  unsigned char* at = r.base + r.top;
  r.top += bytes;
  return at;
}

void give_back(unsigned char* at, size_t bytes) {
  Region& r = region();
  auto next = r.released.lower_bound(at);
  if (next != r.released.end() && next->first == at + bytes) {
    bytes += next->second;
    next = r.released.erase(next);
  }
  if (next != r.released.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == at) {
      before->second += bytes;
      return;
    }
  }
  r.released[at] = bytes;
}

std::recursive_mutex& lock() {
  static auto* one = new std::recursive_mutex;
  return *one;
}

}  // namespace

DeviceAccess::DeviceAccess() {
  lock().lock();
  Region& r = region();
  if (r.accesses++ == 0 && r.top) mprotect(r.base, round_up(r.top), PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  Region& r = region();
  if (--r.accesses == 0 && r.top) mprotect(r.base, round_up(r.top), PROT_NONE);
  lock().unlock();
}

bool allocated(const void* at, size_t bytes) {
  const auto* const first = static_cast<const unsigned char*>(at);
  const auto& live = region().live;
  auto found = live.upper_bound(const_cast<unsigned char*>(first));
  if (found == live.begin()) return false;
  --found;
  return first + bytes <= found->first + found->second.bytes;
}

void check_guards() {
  for (const auto& [at, allocation] : region().live) {
    const unsigned char* behind = at + allocation.bytes;
    const bool before = !untouched(at - kGuardBytes, kGuardBytes);
    if (before || !untouched(behind, allocation.footprint - allocation.bytes - kGuardBytes)) {
      fail("wrote %s an allocation of %zu bytes", before ? "before" : "past the end of",
           allocation.bytes);
    }
  }
}

}  // namespace emulation

using namespace emulation;

cudaError_t cudaMalloc(void** at, size_t bytes) {
  const DeviceAccess access;
  open_region();
  Region& r = region();
  *at = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t footprint = rounded + 2 * kGuardBytes;
  if (bytes > capacity() || r.used + bytes > capacity() || footprint > kRegionBytes / 2 - r.top) {
    return cudaErrorMemoryAllocation;
  }
  unsigned char* begin = take(footprint);
  mprotect(r.base, round_up(r.top), PROT_READ | PROT_WRITE);
  std::memset(begin, kUnwritten, footprint);
  r.used += bytes;
  r.live[begin + kGuardBytes] = {bytes, footprint};
  *at = begin + kGuardBytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* at) {
  if (!at) return cudaSuccess;
  const DeviceAccess access;
  Region& r = region();
  const auto found = r.live.find(static_cast<unsigned char*>(at));
  if (found == r.live.end()) return cudaErrorInvalidValue;
  r.used -= found->second.bytes;
  give_back(found->first - kGuardBytes, found->second.footprint);
  r.live.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** at, size_t bytes, unsigned) {
  if (bytes > kRegionBytes) return cudaErrorMemoryAllocation;  // more than is ever locked
  *at = std::malloc(bytes ? bytes : 1);
  return *at ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* at) {
  std::free(at);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const DeviceAccess access;
  *total_bytes = capacity();
  *free_bytes = capacity() - std::min(capacity(), region().used);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  enqueue(stream, [=] { std::memmove(to, from, bytes); });
  return cudaPeekAtLastError();
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream) {
  enqueue(stream, [=] { std::memset(at, value, bytes); });
  return cudaPeekAtLastError();
}
cudaError_t cudaMemset(void* at, int value, size_t bytes) {
  return cudaMemsetAsync(at, value, bytes, nullptr);
}
