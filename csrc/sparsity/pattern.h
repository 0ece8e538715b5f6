// Which entries of a weight may be non-zero. A property of the weight, not of a model: the linear
// layer, the optimizer, the checkpoint and the report ask the same object.
#pragma once

#include <cstdint>
#include <string>

namespace pyllmc {

class Pattern {
 public:
  // A half-open range of row or column numbers.
  struct Span {
    int64_t begin;
    int64_t end;
    int64_t size() const { return end - begin; }
  };

  // Every entry of a (rows, cols) weight.
  static Pattern dense(int64_t rows, int64_t cols);

  // The diagonal band of experiments 7 to 9. With H the longer side (hidden, j) and C the shorter
  // one (residual, i), entry (j, i) is kept iff 2 |j C - i H| <= bandwidth C: a distance of at
  // most bandwidth / 2 measured on the hidden axis, whichever side is the rows. Bandwidth 0 is
  // dense. Throws UsageError for a negative bandwidth or a shape that is not positive.
  static Pattern band(int64_t rows, int64_t cols, int64_t bandwidth);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t bandwidth() const { return bandwidth_; }

  // The kept columns of a row; empty spans are possible when H is not a multiple of C.
  Span row_span(int64_t row) const;
  // The columns that any row of [row_begin, row_end) keeps: what a tile of outputs may see.
  Span inputs_of(Span rows) const;
  // The rows that keep any column of [begin, end): what a tile of inputs reaches.
  Span outputs_of(Span cols) const;

  bool keeps(int64_t row, int64_t col) const {
    const Span span = row_span(row);
    return col >= span.begin && col < span.end;
  }

  int64_t kept() const { return kept_; }
  int64_t total() const { return rows_ * cols_; }
  double density() const { return static_cast<double>(kept_) / static_cast<double>(total()); }
  bool is_dense() const { return kept_ == total(); }

  // Sets what lies outside to 0 in a row-major weight with leading dimension cols().
  void project(float* weight) const;

  // "dense", "band of 256"
  std::string text() const;

 private:
  Pattern(int64_t rows, int64_t cols, int64_t bandwidth);
  Span col_span(int64_t col) const;

  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t bandwidth_ = 0;  // 0 = dense
  int64_t kept_ = 0;
};

}  // namespace pyllmc
