// Instruction sets beyond the one that everything is compiled for: functions for one, and whether
// this processor has it.
#pragma once

#ifdef __x86_64__

#define PYLLMC_TARGET(isa) __attribute__((target(isa)))
#define PYLLMC_AVX2 PYLLMC_TARGET("arch=x86-64-v3")
#define PYLLMC_AVX512 PYLLMC_TARGET("arch=x86-64-v4")

namespace pyllmc {

inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}
inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512cd");
}

}  // namespace pyllmc

#endif
