#include "sparsity/band_layout.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace pyllmc {

BandLayout::BandLayout(const Pattern& pattern)
    : by_channel_(Pattern::dense(1, 1)), hidden_is_rows_(pattern.hidden_is_rows()) {
  if (!pattern.is_band()) {
    throw UsageError(message("only a band that leaves something out is stored as one, this is ",
                             pattern.text()));
  }
  hidden_ = hidden_is_rows_ ? pattern.rows() : pattern.cols();
  residual_ = hidden_is_rows_ ? pattern.cols() : pattern.rows();
  by_channel_ = Pattern::band(residual_, hidden_, HiddenAxis::cols, pattern.bandwidth());
  for (int64_t first = 0; first < hidden_; first += kBandTile) {
    const int64_t units = std::min(kBandTile, hidden_ - first);
    const Pattern::Span seen = by_channel_.outputs_of({first, first + units});
    const int64_t begin = seen.begin / 2 * 2;
    const int64_t end = std::min(residual_, (seen.end + 1) / 2 * 2);
    tiles_.push_back({first, units, begin, std::max(begin, end), floats_});
    floats_ += tiles_.back().window() * kBandTile;
  }
}

bool BandLayout::pays(const Pattern& pattern) {
  return pattern.is_band() && BandLayout(pattern).executed() <= kPaysBelow;
}

double BandLayout::executed() const {
  return static_cast<double>(floats_) / static_cast<double>(hidden_ * residual_);
}

int64_t BandLayout::widest(int64_t width) const {
  int64_t most = 0;
  for (int64_t c = 0; c < residual_; c += width) {
    most = std::max(most, hidden_of(c, std::min(residual_, c + width)).size());
  }
  return most;
}

Pattern::Span BandLayout::kept(const BandTile& tile, int64_t channel) const {
  const Pattern::Span span = by_channel_.row_span(channel);
  const int64_t begin = std::clamp<int64_t>(span.begin - tile.hidden, 0, tile.units);
  return {begin, std::clamp<int64_t>(span.end - tile.hidden, begin, tile.units)};
}

void BandLayout::pack(const float* logical, float* stored) const {
  for (const BandTile& tile : tiles_) {
    for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
      float* line = stored + tile.offset + (channel - tile.begin) * kBandTile;
      std::fill(line, line + kBandTile, 0.0f);
      const Pattern::Span span = kept(tile, channel);
      for (int64_t unit = span.begin; unit < span.end; ++unit) {
        const int64_t h = tile.hidden + unit;
        line[unit] = logical[hidden_is_rows_ ? h * residual_ + channel : channel * hidden_ + h];
      }
    }
  }
}

void BandLayout::unpack(const float* stored, float* logical) const {
  std::fill(logical, logical + hidden_ * residual_, 0.0f);
  for (const BandTile& tile : tiles_) {
    for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
      const float* line = stored + tile.offset + (channel - tile.begin) * kBandTile;
      for (int64_t unit = 0; unit < tile.units; ++unit) {
        const int64_t h = tile.hidden + unit;
        logical[hidden_is_rows_ ? h * residual_ + channel : channel * hidden_ + h] = line[unit];
      }
    }
  }
}

void BandLayout::project(float* stored) const {
  for (const BandTile& tile : tiles_) {
    for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
      float* line = stored + tile.offset + (channel - tile.begin) * kBandTile;
      const Pattern::Span span = kept(tile, channel);
      std::fill(line, line + span.begin, 0.0f);
      std::fill(line + span.end, line + kBandTile, 0.0f);
    }
  }
}

}  // namespace pyllmc
