// NumPy arrays as tensors and back. Inputs are C-contiguous float32 (converted when they are not).
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "core/tensor.h"

namespace pyllmc {

using FloatArray = pybind11::array_t<float, pybind11::array::c_style | pybind11::array::forcecast>;
using IntArray = pybind11::array_t<int32_t, pybind11::array::c_style | pybind11::array::forcecast>;

template <class T, class Array>
TensorOf<T> view_of(Array& array, T* data) {
  switch (array.ndim()) {
    case 1:
      return {data, {array.shape(0)}};
    case 2:
      return {data, {array.shape(0), array.shape(1)}};
    case 3:
      return {data, {array.shape(0), array.shape(1), array.shape(2)}};
    default:
      throw UsageError(message("an array of ", array.ndim(), " dimensions, expected 1 to 3"));
  }
}

inline ConstTensor tensor_of(const FloatArray& array) {
  return view_of<const float>(array, array.data());
}
inline Tensor mutable_tensor_of(FloatArray& array) {
  return view_of<float>(array, array.mutable_data());
}
inline Tokens tokens_of(const IntArray& array) {
  return view_of<const int32_t>(array, array.data());
}

// Token ids in an array of whole numbers of any width. Throws UsageError for an id outside
// [least, vocab) and for numbers that are not whole; least is at least -2^31.
inline IntArray token_ids(const pybind11::array& tokens, int64_t least, int64_t vocab) {
  const char kind = tokens.dtype().kind();
  if (kind != 'i' && kind != 'u') {
    throw UsageError(message("token ids of type ", std::string(pybind11::str(tokens.dtype())),
                             ", expected whole numbers"));
  }
  const pybind11::array_t<int64_t, pybind11::array::c_style | pybind11::array::forcecast> ids(
      tokens);
  for (const int64_t* id = ids.data(); id < ids.data() + ids.size(); ++id) {
    if (*id >= least && *id < vocab) continue;
    throw UsageError(message("token ", *id, " is not in the vocabulary of ", vocab));
  }
  return IntArray(ids);
}

// A new array, zeroed.
inline FloatArray zeros(std::vector<pybind11::ssize_t> shape) {
  FloatArray array(shape);
  std::fill_n(array.mutable_data(), array.size(), 0.0f);
  return array;
}
inline FloatArray zeros_like(const FloatArray& array) {
  return zeros({array.shape(), array.shape() + array.ndim()});
}

class ParameterTable;
struct Parameter;
// What `stored` says for a parameter of the table, in its logical shape.
FloatArray logical_copy(const ParameterTable& table, const Parameter& p, const float* stored);
// Every entry as a Python Parameter, which keeps `owner` alive.
pybind11::list parameter_list(ParameterTable& table, const pybind11::object& owner);

}  // namespace pyllmc
