#include "layers/parameter.h"

#include <algorithm>
#include <cstring>

#include "core/random.h"
#include "core/threads.h"

namespace pyllmc {

void Parameter::unpack(const float* stored, float* logical) const {
  std::copy_n(stored, count(), logical);
}

void Parameter::pack(const float* logical, float* stored) const {
  std::copy_n(logical, count(), stored);
}

Parameter& ParameterTable::add(Parameter parameter) {
  for (const Parameter& other : entries_) {
    if (other.name == parameter.name) {
      throw UsageError(message("two parameters are called ", parameter.name));
    }
  }
  if (parameter.pattern.rows() != parameter.rows || parameter.pattern.cols() != parameter.cols) {
    parameter.pattern = Pattern::dense(parameter.rows, parameter.cols);
  }
  parameter.offset = floats_;
  floats_ += ceil_div(parameter.count(), 16) * 16;
  entries_.push_back(std::move(parameter));
  return entries_.back();
}

Parameter& ParameterTable::find(std::string_view name) {
  for (Parameter& parameter : entries_) {
    if (parameter.name == name) return parameter;
  }
  throw UsageError(message("there is no parameter called '", name, "'"));
}

int64_t ParameterTable::numbers() const {
  int64_t total = 0;
  for (const Parameter& parameter : entries_) total += parameter.count();
  return total;
}

void ParameterTable::allocate(bool gradients) {
  const int64_t bytes = floats_ * static_cast<int64_t>(sizeof(float));
  values_ = pyllmc::allocate(bytes, "parameters");
  if (gradients) gradients_ = pyllmc::allocate(bytes, "gradients");
  for (Parameter& p : entries_) {
    const auto view = [&](const Memory& memory) {
      float* at = reinterpret_cast<float*>(memory.get()) + p.offset;
      return p.is_matrix ? Tensor(at, {p.rows, p.cols}) : Tensor(at, {p.cols});
    };
    if (p.count() == 0) continue;
    p.value = view(values_);
    if (gradients) p.gradient = view(gradients_);
  }
}

void ParameterTable::initialize(uint64_t seed) {
  for (Parameter& p : entries_) {
    if (p.count() == 0) continue;
    const Philox random(seed, p.name);
    float* value = p.value.data();
    const int64_t drawn = (p.initial_rows < 0 ? p.rows : p.initial_rows) * p.cols;
    switch (p.initial.kind) {
      case Initial::Kind::constant:
        std::fill(value, value + drawn, static_cast<float>(p.initial.scale));
        break;
      case Initial::Kind::normal:
        random.fill_normal(value, drawn, p.initial.scale);
        break;
      case Initial::Kind::uniform:
        random.fill_uniform(value, drawn, -p.initial.scale, p.initial.scale);
        break;
    }
    std::fill(value + drawn, value + p.count(), 0.0f);
  }
}

void ParameterTable::project() {
  for (Parameter& p : entries_) {
    if (p.count() != 0) p.pattern.project(p.value.data());
  }
}

void ParameterTable::zero_gradients(const Context& context) {
  if (!gradients_) return;
  constexpr int64_t kBlock = 1 << 18;
  float* gradients = reinterpret_cast<float*>(gradients_.get());
  parallel_for(context.threads, ceil_div(floats_, kBlock), [&](int64_t block, int) {
    const int64_t begin = block * kBlock, n = std::min(kBlock, floats_ - begin);
    std::memset(gradients + begin, 0, static_cast<size_t>(n) * sizeof(float));
  });
}

}  // namespace pyllmc
