// Twin of csrc/cuda/launch.cuh.
#pragma once

#include <tuple>

#include "block.h"
#include "cuda/check.h"

namespace pyllmc::cuda {

using emulation::kMostSharedBytes;

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            void* stream, const Args&... args) {
  const std::tuple<Params...> values(static_cast<Params>(args)...);
  emulation::enqueue(static_cast<cudaStream_t>(stream), [=] {
    emulation::run({name, grid, block, shared_bytes}, [&] { std::apply(kernel, values); });
  });
  check(cudaGetLastError(), name);
}

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(emulation::shared_begin());
}

template <class V>
V load_vector(const void* at) {
  emulation::require_aligned(at, sizeof(V), "load");
  return *static_cast<const V*>(at);
}
template <class V>
void store_vector(void* at, const V& v) {
  emulation::require_aligned(at, sizeof(V), "store");
  *static_cast<V*>(at) = v;
}

}  // namespace pyllmc::cuda
