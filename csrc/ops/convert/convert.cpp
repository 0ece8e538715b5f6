#include "ops/convert/convert.h"

namespace pyllmc {

void convert(const Context& context, const Convert& args) {
  require_shape("convert", "to", args.to, {args.from.numel()});
  dispatch(context, convert_cpu, "convert", &ConvertKernels::run, args);
}

}  // namespace pyllmc
