#include "train/machine.h"

#include "core/build.h"
#include "core/device.h"
#include "core/panels.h"

namespace pyllmc {

Machine machine_of(Device device, Precision precision) {
  if (device == Device::cuda) {
    const DeviceFacts facts = cuda_facts();
    const std::string set = cuda_kernel_set();
    return {.kernels = set, .gpu = facts.name, .library = facts.blas, .set = set};
  }
  const auto engine = [](Precision p) { return PanelEngine::get(p).name(); };
  return {.kernels = engine(precision),
          .gpu = "",
          .library = "",
          .set = message(instruction_set(), " ", engine(Precision::fp32), " ",
                         engine(Precision::bf16))};
}

}  // namespace pyllmc
