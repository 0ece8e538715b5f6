#include "core/build.h"

#ifndef PYLLMC_VERSION
#define PYLLMC_VERSION "unknown"
#endif

namespace pyllmc {

// Written by the Makefile from the other objects.
extern const char kCodeHash[];

const char* version() { return PYLLMC_VERSION; }

std::string build_id() { return std::string(PYLLMC_VERSION) + " " + kCodeHash; }

const char* instruction_set() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
  return "baseline";
}

}  // namespace pyllmc
