#include "core/device.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "core/build.h"

namespace pyllmc {
namespace {

constexpr char kLibrary[] = "libpyllmc_cuda.so";
constexpr char kBuild[] = "`make cuda` or PYLLMC_CUDA=1 pip install builds it";

struct Opened {
  DeviceReport report;
  const DeviceLibrary* library = nullptr;  // set when the GPU can be used
};

// Beside this code (the extension module), or beside or above the program that it is linked into.
std::vector<std::filesystem::path> places() {
  std::vector<std::filesystem::path> all;
  Dl_info self{};
  if (dladdr(reinterpret_cast<void*>(&places), &self) != 0 && self.dli_fname) {
    all.push_back(std::filesystem::absolute(self.dli_fname).parent_path() / kLibrary);
  }
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    all.push_back(program.parent_path() / kLibrary);
    all.push_back(program.parent_path().parent_path() / kLibrary);
  }
  return all;
}

std::string find_library() {
  if (const char* named = std::getenv("PYLLMC_CUDA_LIBRARY"); named && *named) return named;
  const auto all = places();
  std::error_code error;
  for (const auto& place : all) {
    if (std::filesystem::exists(place, error)) return place.string();
  }
  return all.front().string();
}

// Without a driver there is no need to open the library, which takes some tenths of a second.
bool has_driver() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver) dlclose(driver);
  return driver != nullptr;
}

std::string taken_error(const DeviceRuntime& runtime) {
  const char* text = runtime.take_error();
  return text ? text : "no reason was given";
}

Opened open_library() {
  Opened opened;
  DeviceReport& report = opened.report;
  report.library = find_library();
  std::error_code error;
  report.found = std::filesystem::exists(report.library, error);
  if (!report.found) {
    report.problem = message("there is no ", report.library, ": ", kBuild);
    return opened;
  }
  void* handle = dlopen(report.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    report.problem = message("the CUDA library cannot be opened (", dlerror(),
                             "): install what it names or build it anew; ", kBuild);
    return opened;
  }
  const auto entry = reinterpret_cast<DeviceEntry>(dlsym(handle, "pyllmc_device_library"));
  const DeviceLibrary* library = entry ? entry() : nullptr;
  if (!library || library->interface != kDeviceInterface ||
      std::strncmp(library->build, version(), std::strlen(version())) != 0) {
    report.problem = message(report.library, " is of ",
                             library ? message("build ", library->build) : "another program",
                             ", expected version ", version(), ": build it anew; ", kBuild);
    return opened;
  }
  report.build = library->build;
  DeviceFacts facts;
  if (library->runtime->facts(&facts) != DeviceStatus::ok) {
    report.problem = message("no GPU can be used (", taken_error(*library->runtime),
                             "): run on a machine with an NVIDIA GPU and its driver, or with "
                             "device cpu");
    return opened;
  }
  report.gpu = facts;
  report.usable = true;
  opened.library = library;
  return opened;
}

// One that cannot be used is looked for again when the environment names another.
const Opened& opened_library() {
  static Opened opened = open_library();
  if (!opened.library && opened.report.library != find_library()) opened = open_library();
  return opened;
}

const DeviceLibrary& cuda_library() {
  const Opened& opened = opened_library();
  if (!opened.library) throw DeviceError(opened.report.problem);
  return *opened.library;
}

void require(DeviceStatus status) {
  if (status == DeviceStatus::ok) return;
  throw DeviceError(message("the GPU failed: ", taken_error(cuda_runtime())));
}

}  // namespace

Device device_of(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if (name == "cuda") return Device::cuda;
  if (name == "auto") {
    if (!has_driver()) return Device::cpu;
    const DeviceReport& report = cuda_report();
    const bool emulated =
        report.usable && std::string_view(report.gpu->name).starts_with("emulated");
    return report.usable && !emulated ? Device::cuda : Device::cpu;
  }
  throw UsageError(message("there is no device called '", name, "': use auto, cpu or cuda"));
}

void require_precision(Device device, Precision precision) {
  if (device == Device::cuda || precision != Precision::tf32) return;
  throw UsageError("precision tf32 is of GPUs only: use fp32 or bf16 on the CPU, or device cuda");
}

const DeviceReport& cuda_report() { return opened_library().report; }

const DeviceRuntime& cuda_runtime() { return *cuda_library().runtime; }

DeviceFacts cuda_facts() {
  DeviceFacts facts;
  require(cuda_runtime().facts(&facts));
  return facts;
}

std::string cuda_kernel_set() {
  const DeviceFacts facts = cuda_facts();
  return message("cuda ", cuda_library().build, " sm_", facts.capability, " x ",
                 facts.multiprocessors);
}

Memory allocate(Device device, int64_t bytes, const std::string& purpose) {
  if (device == Device::cpu) return allocate(bytes, purpose);
  const DeviceRuntime& runtime = cuda_runtime();
  void* at = nullptr;
  const DeviceStatus status = runtime.allocate(std::max<int64_t>(bytes, 1), &at);
  if (status == DeviceStatus::out_of_memory) {
    runtime.take_error();
    const DeviceFacts facts = cuda_facts();
    throw UsageError(message("cannot allocate ", bytes_text(bytes), " for ", purpose, " on ",
                             facts.name, ": ", bytes_text(facts.memory_free), " of ",
                             bytes_text(facts.memory_total),
                             " are free; use a smaller batch, sequence or model"));
  }
  require(status);
  return Memory(static_cast<std::byte*>(at),
                [release = runtime.release](std::byte* p) { release(p); });
}

Memory allocate_host(Device device, int64_t bytes, const std::string& purpose) {
  if (device == Device::cpu) return allocate(bytes, purpose);
  const DeviceRuntime& runtime = cuda_runtime();
  const auto refuse = [&] {
    throw UsageError(message("cannot allocate ", bytes_text(bytes), " of page-locked memory for ",
                             purpose, ": ", bytes_text(available_memory()),
                             " of the host's are free; use a smaller batch, sequence or model, or "
                             "accumulate less"));
  };
  // A driver may lock all that there is before it refuses.
  if (bytes > available_memory()) refuse();
  void* at = nullptr;
  const DeviceStatus status = runtime.allocate_host(std::max<int64_t>(bytes, 1), &at);
  if (status == DeviceStatus::out_of_memory) {
    runtime.take_error();
    refuse();
  }
  require(status);
  return Memory(static_cast<std::byte*>(at),
                [release = runtime.release_host](std::byte* p) { release(p); });
}

int64_t available_memory(Device device) {
  return device == Device::cpu ? available_memory() : cuda_facts().memory_free;
}

void copy(const Context& context, void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (context.device == Device::cpu) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  } else {
    require(cuda_runtime().copy(to, from, bytes, context.stream));
  }
}

void copy_now(Device device, void* to, const void* from, int64_t bytes) {
  Context context;
  context.device = device;
  copy(context, to, from, bytes);
  synchronize(context);
}

void zero(const Context& context, void* at, int64_t bytes) {
  if (bytes == 0) return;
  if (context.device == Device::cpu) {
    std::memset(at, 0, static_cast<size_t>(bytes));
  } else {
    require(cuda_runtime().zero(at, bytes, context.stream));
  }
}

void synchronize(const Context& context) {
  if (context.device == Device::cuda) require(cuda_runtime().synchronize(context.stream));
}

Stream::Stream(Device device) {
  if (device == Device::cpu) return;
  const DeviceRuntime& runtime = cuda_runtime();
  void* stream = nullptr;
  require(runtime.make_stream(&stream));
  stream_ = std::shared_ptr<void>(stream, runtime.release_stream);
}

void Graph::reset() {
  graph_.reset();
  calls_ = 0;
}

void Graph::begin(const Context& context) { require(cuda_runtime().begin_graph(context.stream)); }

void Graph::abandon(const Context& context) {
  const DeviceRuntime& runtime = cuda_runtime();
  void* graph = nullptr;
  if (runtime.end_graph(context.stream, &graph) == DeviceStatus::ok) runtime.release_graph(graph);
  runtime.take_error();
}

void Graph::end(const Context& context) {
  const DeviceRuntime& runtime = cuda_runtime();
  void* graph = nullptr;
  require(runtime.end_graph(context.stream, &graph));
  graph_ = std::shared_ptr<void>(graph, runtime.release_graph);
}

void Graph::launch(const Context& context) {
  require(cuda_runtime().launch_graph(graph_.get(), context.stream));
}

const void* device_kernels(const char* op, int64_t bytes) {
  const DeviceLibrary& library = cuda_library();
  for (int32_t i = 0; i < library.table_count; ++i) {
    const DeviceTable& table = library.tables[i];
    if (std::strcmp(table.op, op) == 0 && table.kernels && table.bytes == bytes) {
      return table.kernels;
    }
  }
  throw DeviceError(message(opened_library().report.library, " has no kernels for ", op,
                            ": build it anew; ", kBuild));
}

void throw_device_error(const char* op) {
  const char* text = cuda_runtime().take_error();
  if (text) throw DeviceError(message(op, " on the GPU: ", text));
}

}  // namespace pyllmc
