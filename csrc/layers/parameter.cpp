#include "layers/parameter.h"

#include <algorithm>
#include <cstring>

#include "core/random.h"
#include "core/threads.h"
#include "ops/convert/convert.h"

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
    if (p.band) continue;
    if (values_) {
      kept[i].resize(static_cast<size_t>(p.numel()));
      read(p, p.value.data(), kept[i].data());
    }
    if (BandLayout::pays(p.pattern)) p.band = std::make_shared<const BandLayout>(p.pattern);
  }
  place();
  if (!values_) return;
  const bool gradients = has_gradients(), copies = static_cast<bool>(bf16_);
  values_.reset();
  gradients_.reset();
  bf16_.reset();
  for (Parameter& p : entries_) p.bf16 = {};  // not every copy is made again
  allocate(gradients, device_);
  for (size_t i = 0; i < entries_.size(); ++i) {
    Parameter& p = entries_[i];
    if (!kept[i].empty()) write(p, kept[i].data(), p.value.data());
  }
  if (!copies) return;
  Context context;
  context.device = device_;
  copy_to_bf16(context);
  synchronize(context);
}

Parameter& ParameterTable::find(std::string_view name) {
  for (Parameter& parameter : entries_) {
    if (parameter.name == name) return parameter;
  }
  throw UsageError(message("there is no parameter called '", name, "'"));
}

int64_t ParameterTable::numbers() const {
  int64_t total = 0;
  for (const Parameter& parameter : entries_) total += parameter.numel();
  return total;
}

int64_t ParameterTable::buffer_bytes(bool gradients, bool bf16) const {
  const auto floats = static_cast<int64_t>(sizeof(float)) * (gradients ? 2 : 1);
  return floats_ * (floats + static_cast<int64_t>(bf16 ? sizeof(uint16_t) : 0));
}

void ParameterTable::allocate(bool gradients, Device device) {
  const int64_t bytes = floats_ * static_cast<int64_t>(sizeof(float));
  device_ = device;
  values_ = pyllmc::allocate(device, bytes, "parameters");
  if (gradients) gradients_ = pyllmc::allocate(device, bytes, "gradients");
  for (Parameter& p : entries_) {
    const auto view = [&](const Memory& memory) {
      float* at = reinterpret_cast<float*>(memory.get()) + p.offset;
      if (p.band) return Tensor(at, {p.count()});
      return p.is_matrix ? Tensor(at, {p.rows, p.cols}) : Tensor(at, {p.cols});
    };
    p.value = view(values_);
    if (gradients) p.gradient = view(gradients_);
    if (device == Device::cpu) continue;
    p.device_band = p.band ? DeviceBand(device, *p.band) : DeviceBand();
    p.device_mask = p.band || p.pattern.is_dense() ? DeviceMask() : DeviceMask(device, p.pattern);
  }
}

void ParameterTable::read(const Parameter& p, const float* stored, float* logical) const {
  if (device_ == Device::cpu) return p.unpack(stored, logical);
  std::vector<float> staging(static_cast<size_t>(p.count()));
  copy_now(device_, staging.data(), stored, p.count() * static_cast<int64_t>(sizeof(float)));
  p.unpack(staging.data(), logical);
}

void ParameterTable::write(const Parameter& p, const float* logical, float* stored) {
  stale_ = true;
  if (device_ == Device::cpu) return p.pack(logical, stored);
  std::vector<float> staging(static_cast<size_t>(p.count()));
  p.pack(logical, staging.data());
  copy_now(device_, stored, staging.data(), p.count() * static_cast<int64_t>(sizeof(float)));
}

void ParameterTable::copy_to_bf16(const Context& context) {
  if (!bf16_) {
    const int64_t bytes = floats_ * static_cast<int64_t>(sizeof(uint16_t));
    bf16_ = pyllmc::allocate(device_, bytes, "bf16 weights");
  }
  for (Parameter& p : entries_) {
    uint16_t* copy = bf16() + p.offset;
    if (device_ == Device::cpu) {
      if (!p.is_matrix || p.band) continue;
      const int64_t n = p.count();
      convert(context, {ConstTensor(p.value.data(), {n}), TensorOf<uint16_t>(copy, {n})});
    }
    p.bf16 = p.band        ? TensorOf<uint16_t>(copy, {p.count()})
             : p.is_matrix ? TensorOf<uint16_t>(copy, {p.rows, p.cols})
                           : TensorOf<uint16_t>(copy, {p.cols});
  }
  if (device_ != Device::cpu) {
    convert(context, {ConstTensor(values(), {floats_}), TensorOf<uint16_t>(bf16(), {floats_})});
  }
  stale_ = false;
}

void ParameterTable::refresh(const Context& context) {
  if (shared_ && device_ != Device::cpu) {
    // Other libraries write on the null stream, which ours do not wait for.
    Context others;
    others.device = device_;
    synchronize(others);
  }
  if (bf16_ && (stale_ || shared_)) copy_to_bf16(context);
}

void ParameterTable::initialize(uint64_t seed) {
  std::vector<float> values;
  for (Parameter& p : entries_) {
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
    write(p, values.data(), p.value.data());
  }
}

void ParameterTable::project() {
  for (Parameter& p : entries_) {
    if (p.pattern.is_dense()) continue;
    if (device_ == Device::cpu) {
      p.project(p.value.data());
      continue;
    }
    std::vector<float> logical(static_cast<size_t>(p.numel()));
    read(p, p.value.data(), logical.data());
    p.pattern.project(logical.data());
    write(p, logical.data(), p.value.data());
  }
}

void ParameterTable::zero_gradients(const Context& context) {
  if (!gradients_) return;
  if (context.device != Device::cpu) {
    return zero(context, gradients(), floats_ * static_cast<int64_t>(sizeof(float)));
  }
  constexpr int64_t kBlock = 1 << 18;
  float* all = gradients();
  parallel_for(context.threads, ceil_div(floats_, kBlock), [&](int64_t block, int) {
    const int64_t begin = block * kBlock, n = std::min(kBlock, floats_ - begin);
    std::memset(all + begin, 0, static_cast<size_t>(n) * sizeof(float));
  });
}

}  // namespace pyllmc
