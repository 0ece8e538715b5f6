// The context of one op called from Python: NumPy arrays go to the device, results come back.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "core/bf16.h"
#include "core/device.h"
#include "core/require.h"

namespace pyllmc {

inline void require_rank(const char* name, const pybind11::array& array, int rank) {
  if (array.ndim() != rank) {
    throw UsageError(message(name, " has ", array.ndim(), " dimensions, expected ", rank));
  }
}

struct OpCall : Context {
  OpCall(int thread_count, const std::string& device_name,
         const std::string& precision_name = "fp32") {
    require_threads(thread_count);
    device = device_of(device_name);
    precision = precision_of(precision_name);
    require_precision(device, precision);
    threads = thread_count;
  }

  void provide(int64_t floats) {
    if (floats == 0) return;
    const auto bytes = floats * static_cast<int64_t>(sizeof(float));
    workspace = Tensor(keep<float>(bytes), {floats});
  }

  // An input, in the device's memory as that type.
  ConstTensor in(const FloatArray& array, DType type = DType::fp32) {
    const ConstTensor host = tensor_of(array);
    if (device == Device::cpu) return host;
    return at(array, send(array.data(), array.size(), type), type);
  }
  Tokens in(const IntArray& array) {
    const Tokens host = tokens_of(array);
    if (device == Device::cpu) return host;
    return view_of<const int32_t>(array, send_bytes(array.data(), array.size()));
  }
  // An activation, whose type the context decides.
  ConstTensor activation(const FloatArray& array) { return in(array, activations()); }

  // A result: what the array holds goes to the device, and comes back with finish().
  Tensor out(FloatArray& array, DType type = DType::fp32) {
    if (device == Device::cpu) return mutable_tensor_of(array);
    float* there = send(array.data(), array.size(), type);
    fetch_.push_back([this, there, type, to = array.mutable_data(), n = array.size()] {
      receive(there, to, n, type);
    });
    return at(array, there, type);
  }
  Tensor out_activation(FloatArray& array) { return out(array, activations()); }

  // Numbers of any kind in the device's memory, for the length of the call.
  template <class T>
  T* send_bytes(const T* from, int64_t count) {
    const auto bytes = count * static_cast<int64_t>(sizeof(T));
    T* there = keep<T>(bytes);
    copy_now(device, there, from, bytes);
    return there;
  }
  // bf16 copies of fp32 numbers, where the activations are bf16.
  uint16_t* send_bf16(const float* from, int64_t count) {
    if (activations() != DType::bf16) return nullptr;
    return reinterpret_cast<uint16_t*>(send(from, count, DType::bf16));
  }
  template <class T>
  void receive_bytes(const T* there, T* to, int64_t count) {
    copy_now(device, to, there, count * static_cast<int64_t>(sizeof(T)));
  }
  void keep_alive(Memory memory) { kept_.push_back(std::move(memory)); }

  // Waits for the op, then fetches its results.
  void finish() {
    synchronize(*this);
    for (const auto& fetch : fetch_) fetch();
  }

 private:
  template <class T>
  T* keep(int64_t bytes) {
    kept_.push_back(allocate(device, bytes, "an op's arrays"));
    return reinterpret_cast<T*>(kept_.back().get());
  }
  float* send(const float* from, int64_t n, DType type) {
    if (type == DType::fp32) return send_bytes(from, n);
    std::vector<uint16_t> bits(static_cast<size_t>(n));
    std::transform(from, from + n, bits.begin(), bf16_from_float);
    return reinterpret_cast<float*>(send_bytes(bits.data(), n));
  }
  void receive(const float* there, float* to, int64_t n, DType type) {
    if (type == DType::fp32) return receive_bytes(there, to, n);
    std::vector<uint16_t> bits(static_cast<size_t>(n));
    receive_bytes(reinterpret_cast<const uint16_t*>(there), bits.data(), n);
    std::transform(bits.begin(), bits.end(), to, float_from_bf16);
  }
  template <class Array>
  static Tensor at(const Array& array, float* data, DType type) {
    const Tensor plain = view_of<float>(array, data);
    switch (plain.rank()) {
      case 1:
        return {data, {plain.dim(0)}, type};
      case 2:
        return {data, {plain.dim(0), plain.dim(1)}, type};
      default:
        return {data, {plain.dim(0), plain.dim(1), plain.dim(2)}, type};
    }
  }

  std::vector<Memory> kept_;
  std::vector<std::function<void()>> fetch_;
};

}  // namespace pyllmc
