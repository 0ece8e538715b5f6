// bf16 copies of fp32 numbers, rounded to the nearest, ties to even: the weights as products on a
// GPU and decoding read them.
#pragma once

#include "core/context.h"

namespace pyllmc {

struct Convert {
  ConstTensor from;       // (n)
  TensorOf<uint16_t> to;  // (n)
};

struct ConvertKernels {
  void (*run)(const Context&, const Convert&);
};
extern const ConvertKernels convert_cpu;

void convert(const Context& context, const Convert& args);

}  // namespace pyllmc
