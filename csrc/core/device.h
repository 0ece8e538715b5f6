// The core's side of a GPU: opening the library, memory, copies, streams and graphs. What a library
// reports as failed is thrown here: DeviceError, and UsageError when memory runs out.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/context.h"
#include "core/device_library.h"

namespace pyllmc {

// "cpu" or "cuda"; "auto" is cuda where a GPU can be used (the tests' emulation is none), else cpu.
// Throws UsageError for another name. Whether there is a GPU behind "cuda" is not asked here.
Device device_of(const std::string& name);
// Throws UsageError when the device cannot compute in that precision (tf32 on the CPU).
void require_precision(Device device, Precision precision);

// What is known of the library and the GPU behind it, without throwing.
struct DeviceReport {
  std::string library;               // path of the file that was opened or looked for
  bool found = false;                // the file is there
  bool usable = false;               // and it computes
  std::string problem;               // why not, and what to do; empty when usable
  std::string build;                 // of the library, when it could be opened
  std::optional<DeviceFacts> gpu{};  // when usable
};
const DeviceReport& cuda_report();

// The library's runtime. Throws DeviceError, with what to do, when there is none or no GPU.
const DeviceRuntime& cuda_runtime();
DeviceFacts cuda_facts();
// What the bits of a GPU's results depend on: library, chip and the number of multiprocessors.
std::string cuda_kernel_set();

// Zeroed memory of the device. Throws UsageError with the size, its purpose and what is free.
Memory allocate(Device device, int64_t bytes, const std::string& purpose);
// Zeroed memory of the host, which a device reads and writes without waiting. Throws likewise.
Memory allocate_host(Device device, int64_t bytes, const std::string& purpose);
// Bytes that this process may still take on the device.
int64_t available_memory(Device device);

// Enqueues a copy, in either direction, on the context's stream; a plain copy on the CPU.
void copy(const Context& context, void* to, const void* from, int64_t bytes);
// The same with no stream at hand, complete on return.
void copy_now(Device device, void* to, const void* from, int64_t bytes);
// Enqueues setting memory to 0; done on return on the CPU.
void zero(const Context& context, void* at, int64_t bytes);
// Waits for what was enqueued; nothing on the CPU. Throws DeviceError for what failed meanwhile.
void synchronize(const Context& context);

// A stream of the device, for as long as the object lives; null on the CPU.
class Stream {
 public:
  explicit Stream(Device device);
  void* get() const { return stream_.get(); }

 private:
  std::shared_ptr<void> stream_;
};

// Work that is enqueued many times: run() enqueues it plainly the first time, records it the second
// time, and replays the recording from then on. `work` must enqueue the same with the same
// addresses whenever it is called; reset() after these changed. On the CPU, work is called.
class Graph {
 public:
  template <class Work>
  void run(const Context& context, const Work& work) {
    if (context.device == Device::cpu) return work();
    if (!graph_ && calls_++ == 0) return work();
    if (!graph_) {
      begin(context);
      try {
        work();
      } catch (...) {
        abandon(context);
        throw;
      }
      end(context);
    }
    launch(context);
  }
  void reset();

 private:
  static void begin(const Context& context);
  static void abandon(const Context& context);
  void end(const Context& context);
  void launch(const Context& context);

  std::shared_ptr<void> graph_;
  int64_t calls_ = 0;
};

}  // namespace pyllmc
