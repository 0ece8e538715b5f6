// What stands between a table's function pointers and the kernels' host code: that code may throw,
// nothing may pass the library's border. The first message is kept for take_error().
#pragma once

#include <exception>
#include <string>

#include "core/context.h"

namespace pyllmc::cuda {

// Keeps the message unless one is kept already (runtime.cu).
void keep_error(const char* message) noexcept;

// guarded<forward> is a function of the type a table wants, for `void forward(const Context&,
// const Args&)` and for the workspace functions, which answer 0 when they fail.
template <auto function, class Signature = decltype(function)>
struct Guarded;

template <auto function, class Result, class... Args>
struct Guarded<function, Result (*)(Args...)> {
  static Result call(Args... args) noexcept {
    try {
      return function(args...);
    } catch (const std::exception& error) {
      keep_error(error.what());
    }
    return Result();
  }
};

template <auto function>
constexpr auto guarded = &Guarded<function>::call;

}  // namespace pyllmc::cuda
