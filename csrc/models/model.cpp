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

void Batch::set(const std::string& name, Tokens tokens) {
  for (auto& [key, value] : tensors_) {
    if (key == name) {
      value = tokens;
      return;
    }
  }
  tensors_.emplace_back(name, tokens);
}

Tokens Batch::find(const std::string& name) const {
  for (const auto& [key, value] : tensors_) {
    if (key == name) return value;
  }
  return {};
}

Tokens Batch::get(const std::string& name) const {
  if (const Tokens tokens = find(name)) return tokens;
  throw UsageError(message("the batch has no tensor called '", name, "'"));
}

}  // namespace pyllmc
