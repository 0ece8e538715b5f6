#include "optim/adamw.h"

#include <algorithm>
#include <cmath>

#include "core/device.h"
#include "core/simd.h"
#include "core/threads.h"

namespace pyllmc {
namespace {

constexpr int64_t kPieceFloats = 1 << 16;

struct Rates {
  float rate, beta1, beta2, epsilon, decay, correction1, correction2, scale;
  float rest1, rest2;  // 1 - beta, taken in double: 1 - 0.999f is off by 1e-5
};

PYLLMC_SIMD void update_span(float* p, const float* g, float* m, float* v, int64_t n,
                             const Rates& r) {
  for (int64_t i = 0; i < n; ++i) {
    const float gradient = g[i] * r.scale;
    const float m1 = r.beta1 * m[i] + r.rest1 * gradient;
    const float v1 = r.beta2 * v[i] + r.rest2 * gradient * gradient;
    m[i] = m1;
    v[i] = v1;
    const float step = (m1 / r.correction1) / (__builtin_sqrtf(v1 / r.correction2) + r.epsilon);
    p[i] -= r.rate * (step + r.decay * p[i]);
  }
}

PYLLMC_SIMD double sum_of_squares(const float* g, int64_t n) {
  double sums[16] = {};
  const int64_t whole = n / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    for (int64_t k = 0; k < 16; ++k) {
      sums[k] += static_cast<double>(g[i + k]) * static_cast<double>(g[i + k]);
    }
  }
  for (int64_t i = whole; i < n; ++i) sums[i - whole] += static_cast<double>(g[i]) * g[i];
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

}  // namespace

int64_t AdamW::state_bytes(const ParameterTable& table) {
  return 2 * table.floats() * static_cast<int64_t>(sizeof(float));
}

AdamW::AdamW(ParameterTable& table, const AdamWOptions& options)
    : table_(table), options_(options) {
  for (const char* name : {"m", "v"}) {
    slots_.push_back(
        {name, allocate(table.device(), table.floats() * static_cast<int64_t>(sizeof(float)),
                        "optimizer state")});
  }
  cut();
}

void AdamW::cut() {
  if (table_.device() != Device::cpu) return cut_for_device();
  pieces_.clear();
  for (const Parameter& p : table_.entries()) {
    const int64_t width = p.band ? kBandTile : p.cols;
    const int64_t all = p.count() / width, rows = std::max<int64_t>(1, kPieceFloats / width);
    for (int64_t row = 0; row < all; row += rows) {
      pieces_.push_back({&p, row, std::min(rows, all - row), width});
    }
  }
  squares_.resize(pieces_.size());
}

void AdamW::cut_for_device() {
  std::vector<AdamWPiece> pieces;
  for (const Parameter& p : table_.entries()) {
    const uint32_t* kept = p.device_mask.bits.data();
    for (int64_t first = 0; first < p.count(); first += kAdamWPiece) {
      pieces.push_back({.offset = p.offset + first,
                        .kept = kept ? kept + first / 32 : nullptr,
                        .count = static_cast<int32_t>(std::min(kAdamWPiece, p.count() - first)),
                        .decays = p.is_matrix});
    }
  }
  device_pieces_ = static_cast<int64_t>(pieces.size());
  const auto bytes = device_pieces_ * static_cast<int64_t>(sizeof(AdamWPiece));
  const auto squares = device_pieces_ * static_cast<int64_t>(sizeof(double));
  device_memory_ = allocate(table_.device(), bytes + squares, "the optimizer's pieces");
  copy_now(table_.device(), device_memory_.get(), pieces.data(), bytes);
}

AdamWArgs AdamW::device_args(StepState* state) const {
  const auto* pieces = reinterpret_cast<const AdamWPiece*>(device_memory_.get());
  const std::byte* end = device_memory_.get() + device_pieces_ * sizeof(AdamWPiece);
  return {.pieces = {pieces, {device_pieces_}},
          .values = table_.values(),
          .gradients = table_.gradients(),
          .m = slots_[0].data(),
          .v = slots_[1].data(),
          .bf16 = table_.bf16(),
          .squares = reinterpret_cast<double*>(const_cast<std::byte*>(end)),
          .options = options_,
          .state = state};
}

void AdamW::move_from(const std::vector<int64_t>& offsets) {
  for (Slot& slot : slots_) {
    const Memory old = slot.memory;
    const float* from = reinterpret_cast<const float*>(old.get());
    slot.memory = allocate(table_.device(), table_.floats() * static_cast<int64_t>(sizeof(float)),
                           "optimizer state");
    std::vector<float> logical;
    for (size_t i = 0; i < offsets.size(); ++i) {
      const Parameter& p = table_.entries()[i];
      logical.resize(static_cast<size_t>(p.numel()));
      copy_now(table_.device(), logical.data(), from + offsets[i],
               p.numel() * static_cast<int64_t>(sizeof(float)));
      table_.write(p, logical.data(), slot.data() + p.offset);
    }
  }
  cut();
}

void AdamW::correct_bias(StepState& state) const {
  const double t = static_cast<double>(state.step + 1);
  state.bias_correction1 = static_cast<float>(1 - std::pow(options_.beta1, t));
  state.bias_correction2 = static_cast<float>(1 - std::pow(options_.beta2, t));
}

void AdamW::measure_gradients(const Context& context, StepState* on_device) {
  if (context.device != Device::cpu) {
    const auto& kernels = device_kernels_of<AdamWKernels>("adamw");
    kernels.measure(context, device_args(on_device));
    return throw_device_error("adamw");
  }
  StepState& state = *on_device;
  parallel_for(context.threads, static_cast<int64_t>(pieces_.size()), [&](int64_t index, int) {
    const Piece& piece = pieces_[static_cast<size_t>(index)];
    squares_[static_cast<size_t>(index)] = sum_of_squares(
        piece.parameter->gradient.data() + piece.first_row * piece.width, piece.rows * piece.width);
  });
  double sum = 0;
  for (double part : squares_) sum += part;
  state.gradient_norm = std::sqrt(sum);
  if (!std::isfinite(state.gradient_norm) || !std::isfinite(state.loss.sum)) state.not_finite = 1;
  const bool clipped = options_.clip > 0 && state.gradient_norm > options_.clip;
  state.gradient_scale = clipped ? static_cast<float>(options_.clip / state.gradient_norm) : 1.0f;
}

void AdamW::update(const Context& context, StepState* on_device) {
  if (context.device != Device::cpu) {
    const auto& kernels = device_kernels_of<AdamWKernels>("adamw");
    kernels.update(context, device_args(on_device));
    return throw_device_error("adamw");
  }
  const StepState& state = *on_device;
  if (state.not_finite) return;
  float *m = slots_[0].data(), *v = slots_[1].data();
  parallel_for(context.threads, static_cast<int64_t>(pieces_.size()), [&](int64_t index, int) {
    const Piece& piece = pieces_[static_cast<size_t>(index)];
    const Parameter& p = *piece.parameter;
    const Rates rates = {state.learning_rate,
                         static_cast<float>(options_.beta1),
                         static_cast<float>(options_.beta2),
                         static_cast<float>(options_.epsilon),
                         p.is_matrix ? static_cast<float>(options_.weight_decay) : 0.0f,
                         state.bias_correction1,
                         state.bias_correction2,
                         state.gradient_scale,
                         static_cast<float>(1 - options_.beta1),
                         static_cast<float>(1 - options_.beta2)};
    const auto update_at = [&](int64_t at, int64_t n) {
      update_span(p.value.data() + at, p.gradient.data() + at, m + p.offset + at, v + p.offset + at,
                  n, rates);
    };
    // A stored band's corners have no gradient, so they stay 0 like everything outside.
    if (p.band || p.pattern.is_dense()) {
      update_at(piece.first_row * piece.width, piece.rows * piece.width);
      return;
    }
    for (int64_t row = piece.first_row; row < piece.first_row + piece.rows; ++row) {
      float* values = p.value.data() + row * p.cols;
      p.pattern.each_gap(
          row, [&](Pattern::Span gap) { std::fill(values + gap.begin, values + gap.end, 0.0f); });
      p.pattern.each_span(
          row, [&](Pattern::Span span) { update_at(row * p.cols + span.begin, span.size()); });
    }
  });
}

}  // namespace pyllmc
