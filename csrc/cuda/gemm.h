// Products of dense matrices by the vendor's library.
#pragma once

#include <string>

namespace pyllmc::cuda {

// The library and its version, "cuBLASLt 13.0.2": part of what the bits of a product depend on.
std::string gemm_name();

}  // namespace pyllmc::cuda
