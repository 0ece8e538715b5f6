// What, beside its inputs, the bits of a result depend on: the compiled code and the instructions
// that this processor has.
#pragma once

#include <string>

namespace pyllmc {

// Version of the package.
const char* version();

// Version and the hash of the core's object code: equal ids compute alike.
std::string build_id();

// Which of the versions of each kernel the loader picks here (core/simd.h): "x86-64-v4",
// "x86-64-v3" or "baseline".
const char* instruction_set();

}  // namespace pyllmc
