// The border between the core and a library that computes on a GPU. The core neither links nor
// includes CUDA: the library is opened at run time, on the first ask for Device::cuda, and hands
// over one DeviceLibrary.
//
// What a library must keep to: nothing is thrown across the border; a function that can fail
// returns a DeviceStatus, a kernel that fails leaves its message for take_error(). Everything on a
// stream is only enqueued, in order. The bits of a result depend on its inputs alone.
#pragma once

#include <cstdint>

namespace pyllmc {

// Changes with every change of what follows, of a kernel table or of a table's arguments.
constexpr uint32_t kDeviceInterface = 1;

enum class DeviceStatus : int32_t { ok = 0, failed = 1, out_of_memory = 2 };

// Plain characters: this crosses the border.
struct DeviceFacts {
  char name[256];           // "NVIDIA H200", "emulated GPU"
  char runtime[64];         // "CUDA 13.0, driver 13.0"
  char blas[64];            // what the products use: "cuBLASLt 13.0.2"
  int32_t capability;       // 90 for 9.0
  int32_t multiprocessors;  // part of what the bits of a product depend on
  int64_t memory_total, memory_free;
};

struct DeviceRuntime {
  // The message of the first failure since the last call, or null. Valid until the next call.
  const char* (*take_error)();
  DeviceStatus (*facts)(DeviceFacts* out);
  // Device memory, zeroed, at a multiple of 256; page-locked memory of the host, zeroed.
  DeviceStatus (*allocate)(int64_t bytes, void** out);
  DeviceStatus (*allocate_host)(int64_t bytes, void** out);
  void (*release)(void* at);
  void (*release_host)(void* at);
  // A stream that waits for no other.
  DeviceStatus (*make_stream)(void** out);
  void (*release_stream)(void* stream);
  // Copies in any direction. From or to page-locked host memory only enqueued, as is zero().
  DeviceStatus (*copy)(void* to, const void* from, int64_t bytes, void* stream);
  DeviceStatus (*zero)(void* at, int64_t bytes, void* stream);
  // Waits for all that was enqueued; reports what failed meanwhile.
  DeviceStatus (*synchronize)(void* stream);
  // Between begin and end, what is enqueued on the stream is recorded, not run.
  DeviceStatus (*begin_graph)(void* stream);
  DeviceStatus (*end_graph)(void* stream, void** graph);
  DeviceStatus (*launch_graph)(void* graph, void* stream);
  void (*release_graph)(void* graph);
};

// The kernels of one op: a pointer to its table ("linear", LinearKernels) and the size of that.
struct DeviceTable {
  const char* op;
  const void* kernels;
  int64_t bytes;
};

struct DeviceLibrary {
  uint32_t interface;  // kDeviceInterface
  const char* build;   // version of the package and a hash of the library's code
  const DeviceRuntime* runtime;
  const DeviceTable* tables;
  int32_t table_count;
};

// The one symbol of a library: `extern "C" const DeviceLibrary* pyllmc_device_library()`. It only
// returns an address: no GPU is touched before the runtime's functions are called.
using DeviceEntry = const DeviceLibrary* (*)();

}  // namespace pyllmc
