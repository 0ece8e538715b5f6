#include "models/model.h"

namespace pyllmc {

void require_batch_shape(int64_t B, int64_t T) {
  if (B < 1 || T < 1) {
    throw UsageError(
        message("a batch of B = ", B, " and T = ", T, " is not possible: both must be 1 or more"));
  }
  if (B > INT32_MAX / T) {
    throw UsageError(message("a batch of B = ", B, " and T = ", T, " has more than ", INT32_MAX,
                             " tokens: use smaller batches and accumulate them"));
  }
}

void Batch::set(std::string_view name, Tokens tokens) {
  for (Named& tensor : tensors_) {
    if (tensor.name != name && !tensor.name.empty()) continue;
    tensor = {name, tokens};
    return;
  }
  throw UsageError(message("the batch has ", tensors_.size(), " tensors already, no '", name, "'"));
}

Tokens Batch::find(std::string_view name) const {
  for (const Named& tensor : tensors_) {
    if (tensor.name == name) return tensor.tokens;
  }
  return {};
}

Tokens Batch::get(std::string_view name) const {
  if (const Tokens tokens = find(name)) return tokens;
  throw UsageError(message("the batch has no tensor called '", name, "'"));
}

}  // namespace pyllmc
