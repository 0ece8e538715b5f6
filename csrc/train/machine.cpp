#include "train/machine.h"

#include "core/build.h"
#include "core/device.h"
#include "core/gemm.h"
#include "core/panels.h"

namespace pyllmc {

Machine machine_of(Device device, Precision precision) {
  if (device == Device::cuda) {
    const DeviceFacts facts = cuda_facts();
    const std::string set = cuda_kernel_set();
    return {.kernels = set, .gemm = facts.blas, .gemm_core = facts.name, .set = set};
  }
  const GemmLibrary& library = gemm_library();
  const auto engine = [](Precision p) { return PanelEngine::get(p).name(); };
  return {.kernels = engine(precision),
          .gemm = library.name,
          .gemm_core = library.core,
          .set = message(instruction_set(), " ", engine(Precision::fp32), " ",
                         engine(Precision::bf16))};
}

}  // namespace pyllmc
