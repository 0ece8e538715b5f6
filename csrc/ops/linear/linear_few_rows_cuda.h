// Linear layers of a handful of rows on a GPU: the weight is dense or a stored band.
#pragma once

#include "ops/linear/linear.h"

namespace pyllmc::cuda {

constexpr int kFewRowsCuda = 4;  // up to this many rows

void few_rows(const Context& context, const LinearForward& args);

}  // namespace pyllmc::cuda
