// Which entries of a weight may be non-zero. A property of the weight, not of a model: the linear
// layer, the optimizer, the checkpoint and the report ask the same object.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pyllmc {

// How the entries that a bandwidth pays for are placed. All but the band are controls for it.
enum class PatternKind {
  band,                    // along the diagonal
  random,                  // the same number in every row, at random places
  block,                   // equal blocks along the diagonal and a smaller last one
  band_permuted_residual,  // the band behind a shuffle of the residual channels: no locality left
  band_permuted_hidden,    // the band with the hidden units renamed: the same model by other names
};

// "band", "random", "block", "band-permuted-residual", "band-permuted-hidden".
std::string_view pattern_name(PatternKind kind);
// Throws UsageError for any other word.
PatternKind pattern_kind(std::string_view name);

// The axis of an MLP weight that is the hidden one: the rows of FC1, the columns of FC2.
enum class HiddenAxis { rows, cols };

// What a pattern is drawn from: equal seeds and names give equal patterns in every arm.
struct PatternSource {
  PatternKind kind = PatternKind::band;
  uint64_t mask_seed = 1337;
  std::string layer{};   // the shuffles' name: FC1 and FC2 of a layer share them
  std::string weight{};  // the random pattern's name
};

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

  // The diagonal band of experiments 7 to 9. With H the hidden width (j) and C the residual width
  // (i), entry (j, i) is kept iff 2 |j C - i H| <= bandwidth C: a distance of at most
  // bandwidth / 2 measured on the hidden axis, whichever side is the rows. Without an axis the
  // longer side is the hidden one. Bandwidth 0 is dense. Throws UsageError for a negative
  // bandwidth or a shape that is not positive.
  static Pattern band(int64_t rows, int64_t cols, int64_t bandwidth);
  static Pattern band(int64_t rows, int64_t cols, HiddenAxis hidden, int64_t bandwidth);

  // As many entries as that band keeps, placed as `source` says:
  //   random   round(kept / rows) in every row; the places come from Philox
  //   block    n equal blocks and one smaller, sized for the nearest count; UsageError when that
  //            is more than 2 % off
  //   permuted exactly the band's entries, rows or columns shuffled
  // Bandwidth 0, and a band that keeps everything, are dense for every kind.
  static Pattern make(const PatternSource& source, int64_t rows, int64_t cols, HiddenAxis hidden,
                      int64_t bandwidth);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t bandwidth() const { return bandwidth_; }
  bool hidden_is_rows() const { return hidden_is_rows_; }
  PatternKind kind() const { return kind_; }

  // Calls f(span) for every run of kept columns of a row, in order; not at all for an empty row.
  template <class F>
  void each_span(int64_t row, F&& f) const {
    if (!table_) {
      const Span span = band_span(row);
      if (span.size() > 0) f(span);
      return;
    }
    const size_t at = static_cast<size_t>(row);
    for (size_t i = table_->first[at]; i < table_->first[at + 1]; ++i) f(table_->spans[i]);
  }
  // The same for the runs of columns that are left out.
  template <class F>
  void each_gap(int64_t row, F&& f) const {
    int64_t at = 0;
    each_span(row, [&](Span span) {
      if (span.begin > at) f(Span{at, span.begin});
      at = span.end;
    });
    if (at < cols_) f(Span{at, cols_});
  }

  // The columns between the first and the last that a row keeps; empty spans are possible when H is
  // not a multiple of C.
  Span row_span(int64_t row) const;
  // The columns between the first and the last that any row of [begin, end) keeps: what a tile of
  // outputs may see.
  Span inputs_of(Span rows) const;
  // The rows between the first and the last that keep any column of [begin, end): what a tile of
  // inputs reaches.
  Span outputs_of(Span cols) const;

  bool keeps(int64_t row, int64_t col) const;

  int64_t kept() const { return kept_; }
  int64_t total() const { return rows_ * cols_; }
  double density() const { return static_cast<double>(kept_) / static_cast<double>(total()); }
  bool is_dense() const { return kept_ == total(); }
  // Whether it is a diagonal band that leaves something out: spans that move monotonically.
  bool is_band() const { return kind_ == PatternKind::band && !is_dense(); }

  // Sets what lies outside to 0 in a row-major weight with leading dimension cols().
  void project(float* weight) const;

  // "dense", "band of 256", "random, as a band of 256"
  std::string text() const;

 private:
  // Every row's spans, for patterns without a formula: row r has spans [first[r], first[r + 1]).
  struct SpanTable {
    std::vector<size_t> first;
    std::vector<Span> spans;
    void add_row(std::vector<int64_t>& columns);  // sorts them
  };

  Pattern(int64_t rows, int64_t cols, HiddenAxis hidden, int64_t bandwidth);
  Span band_span(int64_t row) const;
  Span band_col_span(int64_t col) const;
  // Takes the place of the band with the spans of another kind.
  void replace(PatternKind kind, SpanTable table);

  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t bandwidth_ = 0;  // 0 = dense
  int64_t reach_ = 0;      // |j C - i H| <= reach
  bool hidden_is_rows_ = true;
  PatternKind kind_ = PatternKind::band;
  int64_t kept_ = 0;
  std::shared_ptr<const SpanTable> table_;  // null for bands
};

}  // namespace pyllmc
