#include "models/model.h"

namespace pyllmc {

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
