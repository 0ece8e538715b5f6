#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace pyllmc {
namespace {

constexpr int64_t kAlignment = 64;

// The first number in a file such as /sys/fs/cgroup/memory.max; -1 when there is none ("max").
int64_t number_in(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  if (!(file >> value)) return -1;
  return value;
}

int64_t meminfo_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string rest;
  while (file >> key >> kib && std::getline(file, rest)) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return INT64_MAX;  // not Linux: the allocator's own refusal is the only limit known
}

}  // namespace

Memory allocate(int64_t bytes, const std::string& purpose) {
  if (bytes <= 0) bytes = kAlignment;
  void* at = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    throw UsageError(message("cannot allocate ", bytes_text(bytes), " for ", purpose,
                             "; use a smaller batch, sequence or model"));
  }
#ifdef MADV_HUGEPAGE
  madvise(at, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // fewer TLB misses; only a hint
#endif
  return Memory(static_cast<std::byte*>(at),
                [bytes](std::byte* p) { munmap(p, static_cast<size_t>(bytes)); });
}

int64_t available_memory() {
  int64_t available = meminfo_available();
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit >= 0 && used >= 0) available = std::min(available, std::max<int64_t>(limit - used, 0));
  return available;
}

std::string bytes_text(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

std::byte* Arena::take(int64_t bytes) {
  const int64_t start = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!memory_) return nullptr;
  if (used_ > capacity_) {
    throw UsageError(message("an arena of ", capacity_, " bytes was asked for ", used_,
                             ": plan and layout disagree"));
  }
  return memory_.get() + start;
}

int64_t total_bytes(const std::vector<MemoryNeed>& needs) {
  int64_t total = 0;
  for (const MemoryNeed& need : needs) total += need.bytes;
  return total;
}

}  // namespace pyllmc
