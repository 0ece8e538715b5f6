#include "layers/parameter.h"

#include <algorithm>
#include <cstring>

#include "core/bf16.h"
#include "core/random.h"
#include "core/threads.h"

namespace pyllmc {

void Parameter::unpack(const float* stored, float* logical) const {
  if (band) return band->unpack(stored, logical);
  std::copy_n(stored, count(), logical);
}

void Parameter::pack(const float* logical, float* stored) const {
  if (band) return band->pack(logical, stored);
  std::copy_n(logical, count(), stored);
}

void Parameter::project(float* stored) const {
  if (band) return band->project(stored);
  pattern.project(stored);
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
  entries_.push_back(std::move(parameter));
  place();
  return entries_.back();
}

// Gives every entry its place in the buffers.
void ParameterTable::place() {
  floats_ = 0;
  for (Parameter& parameter : entries_) {
    parameter.offset = floats_;
    floats_ += ceil_div(parameter.count(), 16) * 16;
  }
}

void ParameterTable::store_bands() {
  std::vector<std::vector<float>> kept(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    Parameter& p = entries_[i];
    if (p.count() == 0 || p.band) continue;
    if (values_) kept[i].assign(p.value.data(), p.value.data() + p.count());
    if (BandLayout::pays(p.pattern)) p.band = std::make_shared<const BandLayout>(p.pattern);
  }
  place();
  if (!values_) return;
  allocate(has_gradients());
  for (size_t i = 0; i < entries_.size(); ++i) {
    Parameter& p = entries_[i];
    if (!kept[i].empty()) p.pack(kept[i].data(), p.value.data());
  }
}

Parameter& ParameterTable::find(std::string_view name) {
  for (Parameter& parameter : entries_) {
    if (parameter.name == name) return parameter;
  }
  throw UsageError(message("there is no parameter called '", name, "'"));
}

int64_t ParameterTable::numbers() const {
  int64_t total = 0;
  for (const Parameter& parameter : entries_) {
    if (parameter.tied_to.empty()) total += parameter.numel();
  }
  return total;
}

void ParameterTable::allocate(bool gradients) {
  const int64_t bytes = floats_ * static_cast<int64_t>(sizeof(float));
  values_ = pyllmc::allocate(bytes, "parameters");
  if (gradients) gradients_ = pyllmc::allocate(bytes, "gradients");
  for (Parameter& p : entries_) {
    const auto view = [&](const Memory& memory) {
      float* at = reinterpret_cast<float*>(memory.get()) + p.offset;
      if (p.band) return Tensor(at, {p.count()});
      return p.is_matrix ? Tensor(at, {p.rows, p.cols}) : Tensor(at, {p.cols});
    };
    if (p.count() == 0) continue;
    p.value = view(values_);
    if (gradients) p.gradient = view(gradients_);
  }
}

void ParameterTable::copy_to_bf16() {
  bf16_ = pyllmc::allocate(floats_ * static_cast<int64_t>(sizeof(uint16_t)), "bf16 weights");
  for (Parameter& p : entries_) {
    if (p.count() == 0 || !p.is_matrix || p.band) continue;
    auto* copy = reinterpret_cast<uint16_t*>(bf16_.get()) + p.offset;
    std::transform(p.value.data(), p.value.data() + p.count(), copy, bf16_from_float);
    p.bf16 = TensorOf<uint16_t>(copy, {p.rows, p.cols});
  }
}

void ParameterTable::initialize(uint64_t seed) {
  std::vector<float> values;
  for (Parameter& p : entries_) {
    if (p.count() == 0) continue;
    const Philox random(seed, p.name);
    const int64_t drawn = (p.initial_rows < 0 ? p.rows : p.initial_rows) * p.cols;
    values.assign(static_cast<size_t>(p.numel()), 0.0f);
    switch (p.initial.kind) {
      case Initial::Kind::constant:
        std::fill_n(values.begin(), drawn, static_cast<float>(p.initial.scale));
        break;
      case Initial::Kind::normal:
        random.fill_normal(values.data(), drawn, p.initial.scale);
        break;
      case Initial::Kind::uniform:
        random.fill_uniform(values.data(), drawn, -p.initial.scale, p.initial.scale);
        break;
    }
    p.pack(values.data(), p.value.data());
  }
}

void ParameterTable::project() {
  for (Parameter& p : entries_) {
    if (p.count() != 0) p.project(p.value.data());
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
