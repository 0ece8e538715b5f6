// Views of memory: a pointer with a shape. A Tensor owns nothing.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace pyllmc {

enum class Device : uint8_t { cpu, cuda };

// Of the operands of products; sums are fp32 and weights are kept in fp32. TF32 is fp32 in memory,
// rounded to 10 bits of fraction by the tensor cores that read it: CUDA only.
enum class Precision : uint8_t { fp32, bf16, tf32 };

inline const char* name_of(Precision precision) {
  return precision == Precision::fp32 ? "fp32" : precision == Precision::bf16 ? "bf16" : "tf32";
}
// Throws UsageError for any other name.
inline Precision precision_of(const std::string& name) {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::tf32}) {
    if (name == name_of(precision)) return precision;
  }
  throw UsageError(message("there is no precision called '", name, "': use fp32, bf16 or tf32"));
}

// What an element of a Tensor is in memory.
enum class DType : uint8_t { fp32, bf16 };

inline const char* name_of(DType type) { return type == DType::fp32 ? "fp32" : "bf16"; }

inline const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

// A row-major view of elements of type T with at most four dimensions. A view of float may also be
// one of bf16 (type()): only on a GPU, where kernels read it by as<>().
template <class T>
class TensorOf {
 public:
  TensorOf() = default;
  TensorOf(T* data, std::initializer_list<int64_t> shape, DType type = DType::fp32)
      : data_(data), type_(type) {
    if (shape.size() > shape_.size()) throw UsageError("a tensor has at most 4 dimensions");
    for (int64_t dim : shape) shape_[rank_++] = dim;
  }
  // A view of mutable elements is also a view of constant ones.
  template <class U>
    requires std::is_same_v<const U, T>
  TensorOf(const TensorOf<U>& other)
      : data_(other.data()), rank_(other.rank()), type_(other.type()) {
    for (int i = 0; i < rank_; ++i) shape_[i] = other.dim(i);
  }

  T* data() const { return data_; }
  // The same address, for elements that type() says are of another kind.
  template <class U>
  U* as() const {
    return reinterpret_cast<U*>(data_);
  }
  DType type() const { return type_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const { return shape_[i]; }
  explicit operator bool() const { return data_ != nullptr; }

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= shape_[i];
    return n;
  }
  int64_t bytes() const {
    return numel() * static_cast<int64_t>(type_ == DType::bf16 ? sizeof(uint16_t) : sizeof(T));
  }

  bool has_shape(std::initializer_list<int64_t> shape) const {
    if (static_cast<int>(shape.size()) != rank_) return false;
    int i = 0;
    for (int64_t dim : shape) {
      if (shape_[i++] != dim) return false;
    }
    return true;
  }

  std::string shape_text() const {
    std::string text = "(";
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(shape_[i]);
    return text + ")";
  }

 private:
  T* data_ = nullptr;
  int rank_ = 0;
  DType type_ = DType::fp32;
  std::array<int64_t, 4> shape_{};
};

using Tensor = TensorOf<float>;
using ConstTensor = TensorOf<const float>;
using Tokens = TensorOf<const int32_t>;

// The check at every op's door: throws UsageError with the name, the shape seen and the one
// expected.
template <class T>
void require_shape(const char* op, const char* name, const TensorOf<T>& tensor,
                   std::initializer_list<int64_t> expected) {
  if (tensor.has_shape(expected)) return;
  throw UsageError(message(op, ": ", name, " has shape ", tensor.shape_text(), ", expected ",
                           TensorOf<T>(nullptr, expected).shape_text()));
}

// The same for what an element is.
template <class T>
void require_type(const char* op, const char* name, const TensorOf<T>& tensor, DType expected) {
  if (tensor.type() == expected) return;
  throw UsageError(
      message(op, ": ", name, " is ", name_of(tensor.type()), ", expected ", name_of(expected)));
}

}  // namespace pyllmc
