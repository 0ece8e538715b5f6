#include "sparsity/pattern.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace pyllmc {
namespace {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && a < 0); }

// The positions p on an axis of length `length` with |at * step_at - p * step_p| <= reach.
Pattern::Span within(int64_t at, int64_t step_at, int64_t step_p, int64_t reach, int64_t length) {
  const int64_t first = -floor_div(reach - at * step_at, step_p);  // the ceiling
  const int64_t last = floor_div(at * step_at + reach, step_p);
  const int64_t begin = std::clamp<int64_t>(first, 0, length);
  return {begin, std::clamp<int64_t>(last + 1, begin, length)};
}

}  // namespace

Pattern::Pattern(int64_t rows, int64_t cols, int64_t bandwidth)
    : rows_(rows), cols_(cols), bandwidth_(bandwidth) {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  if (rows < 1 || cols < 1 || rows > kLimit || cols > kLimit) {
    throw UsageError(message("a weight of ", rows, " x ", cols,
                             " has no pattern: both sides must be 1 to ", kLimit));
  }
  if (bandwidth < 0 || bandwidth > kLimit) {
    throw UsageError(
        message("bandwidth ", bandwidth, " is not possible: give 0 for dense or 1 to ", kLimit));
  }
  for (int64_t row = 0; row < rows; ++row) kept_ += row_span(row).size();
}

Pattern Pattern::dense(int64_t rows, int64_t cols) { return Pattern(rows, cols, 0); }

Pattern Pattern::band(int64_t rows, int64_t cols, int64_t bandwidth) {
  return Pattern(rows, cols, bandwidth);
}

Pattern::Span Pattern::row_span(int64_t row) const {
  if (bandwidth_ == 0) return {0, cols_};
  const int64_t reach = bandwidth_ * std::min(rows_, cols_) / 2;
  return within(row, cols_, rows_, reach, cols_);
}

Pattern::Span Pattern::col_span(int64_t col) const {
  if (bandwidth_ == 0) return {0, rows_};
  const int64_t reach = bandwidth_ * std::min(rows_, cols_) / 2;
  return within(col, rows_, cols_, reach, rows_);
}

// A band's spans move monotonically, so the first and the last row bound those between.
Pattern::Span Pattern::inputs_of(Span rows) const {
  return {row_span(rows.begin).begin, row_span(rows.end - 1).end};
}

Pattern::Span Pattern::outputs_of(Span cols) const {
  return {col_span(cols.begin).begin, col_span(cols.end - 1).end};
}

void Pattern::project(float* weight) const {
  if (is_dense()) return;
  for (int64_t row = 0; row < rows_; ++row) {
    const Span span = row_span(row);
    float* w = weight + row * cols_;
    std::fill(w, w + span.begin, 0.0f);
    std::fill(w + span.end, w + cols_, 0.0f);
  }
}

std::string Pattern::text() const {
  return bandwidth_ == 0 ? "dense" : message("band of ", bandwidth_);
}

}  // namespace pyllmc
