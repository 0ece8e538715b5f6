#include "ops/classifier/classifier.h"

namespace pyllmc {

void classifier(const Context& context, const ClassifierArgs& args) {
  const int64_t M = args.x.dim(0), C = args.x.dim(1), Vp = args.wte.dim(0);
  require_shape("classifier", "wte", args.wte, {Vp, C});
  require_shape("classifier", "targets", args.targets, {M});
  if (args.vocab < 1 || args.vocab > Vp) {
    throw UsageError(message("classifier: V = ", args.vocab, " is not in 1 to Vp = ", Vp));
  }
  if (static_cast<bool>(args.dx) != static_cast<bool>(args.dwte)) {
    throw UsageError("classifier: dx and dwte are asked for together or not at all");
  }
  require_type("classifier", "x", args.x, context.activations());
  if (args.dx && !args.scale) throw UsageError("classifier: gradients need a scale");
  if (args.dx) {
    require_type("classifier", "dx", args.dx, context.activations());
    require_shape("classifier", "dx", args.dx, {M, C});
    require_shape("classifier", "dwte", args.dwte, {Vp, C});
  }
  dispatch(context, classifier_cpu, "classifier", &ClassifierKernels::run, args);
}

int64_t classifier_workspace(const Context& context, int64_t tokens, int64_t channels,
                             int64_t vocab, bool gradients) {
  return select_kernels(context, classifier_cpu, "classifier")
      .workspace(context, tokens, channels, vocab, gradients);
}

}  // namespace pyllmc
