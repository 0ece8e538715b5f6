// Memory by lifetime. Whatever a run needs is planned before it is allocated: the same layout
// function runs once over a counting Arena and once over one with memory behind it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace pyllmc {

// Zeroed memory at a fixed 64-byte aligned address until the last owner lets go.
using Memory = std::shared_ptr<std::byte>;

// Throws UsageError with the size and its purpose when the system refuses.
Memory allocate(int64_t bytes, const std::string& purpose);

// Bytes that this process may still take: free memory of the machine, or less under a cgroup limit.
int64_t available_memory();

// "1.5 GiB", "27.7 MiB"
std::string bytes_text(int64_t bytes);

class Arena {
 public:
  Arena() = default;  // counts only: every tensor has a null pointer
  explicit Arena(Memory memory, int64_t capacity)
      : memory_(std::move(memory)), capacity_(capacity) {}

  template <class T = float>
  TensorOf<T> reserve(std::initializer_list<int64_t> shape) {
    TensorOf<T> counted(nullptr, shape);
    std::byte* at = take(counted.bytes());
    return TensorOf<T>(reinterpret_cast<T*>(at), shape);
  }
  Tensor reserve(std::initializer_list<int64_t> shape, DType type) {
    std::byte* at = take(Tensor(nullptr, shape, type).bytes());
    return Tensor(reinterpret_cast<float*>(at), shape, type);
  }

  int64_t bytes() const { return used_; }

 private:
  std::byte* take(int64_t bytes);

  Memory memory_;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
};

// One line of the answer to "does this run fit": what needs how much.
struct MemoryNeed {
  std::string purpose;
  int64_t bytes;
};

int64_t total_bytes(const std::vector<MemoryNeed>& needs);

}  // namespace pyllmc
