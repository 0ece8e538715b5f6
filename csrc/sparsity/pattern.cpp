#include "sparsity/pattern.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/random.h"

namespace pyllmc {
namespace {

constexpr std::pair<PatternKind, std::string_view> kNames[] = {
    {PatternKind::band, "band"},
    {PatternKind::random, "random"},
    {PatternKind::block, "block"},
    {PatternKind::band_permuted_residual, "band-permuted-residual"},
    {PatternKind::band_permuted_hidden, "band-permuted-hidden"}};

// The largest error in the number of kept entries that a block pattern may have.
constexpr double kBlockTolerance = 0.02;

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && a < 0); }

// The positions p on an axis of length `length` with |at * step_at - p * step_p| <= reach.
Pattern::Span within(int64_t at, int64_t step_at, int64_t step_p, int64_t reach, int64_t length) {
  const int64_t first = -floor_div(reach - at * step_at, step_p);  // the ceiling
  const int64_t last = floor_div(at * step_at + reach, step_p);
  const int64_t begin = std::clamp<int64_t>(first, 0, length);
  return {begin, std::clamp<int64_t>(last + 1, begin, length)};
}

// Numbers in [0, n) from a named stream: word w gives floor(w n / 2^32), which favours no number by
// more than n / 2^32.
class IndexStream {
 public:
  IndexStream(uint64_t seed, const std::string& name) : random_(seed, name) {}
  int64_t next(int64_t n) {
    if (at_ % 4 == 0) block_ = random_.block(at_ / 4);
    const uint64_t word = block_[at_++ % 4];
    return static_cast<int64_t>(word * static_cast<uint64_t>(n) >> 32);
  }

 private:
  Philox random_;
  Philox::Block block_{};
  uint64_t at_ = 0;
};

// The first `count` items become a random choice, in random order (Fisher and Yates from the
// front).
void choose(IndexStream& stream, std::vector<int64_t>& items, int64_t count) {
  const auto n = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < std::min(count, n - 1); ++i) {
    std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(i + stream.next(n - i))]);
  }
}

std::vector<int64_t> identity(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<int64_t> shuffled(IndexStream stream, int64_t n) {
  std::vector<int64_t> order = identity(n);
  choose(stream, order, n);
  return order;
}

// Blocks along the diagonal: `count` of (hidden, residual) and what is left of both axes.
struct Blocks {
  int64_t count, hidden, residual, kept;
};

// n equal blocks of a fraction f of either axis and a last one of 1 - n f keep n f^2 + (1 - n f)^2
// of all entries, which runs from 1/n at f = 1/n down to 1/(n + 1) at f = 1/(n + 1): so
// n = floor(1 / density). The whole numbers around that solution are searched for the nearest
// count.
Blocks nearest_blocks(int64_t H, int64_t C, int64_t wanted) {
  const double density =
      static_cast<double>(wanted) / (static_cast<double>(H) * static_cast<double>(C));
  const auto n = static_cast<int64_t>(1 / density);
  const int64_t slack = 1 + H / C;
  std::optional<Blocks> best;
  const auto error = [&](const Blocks& b) { return std::abs(b.kept - wanted); };
  for (int64_t count = std::max<int64_t>(1, n - 1); count <= n + 1; ++count) {
    for (int64_t width = std::max<int64_t>(1, C / (count + 1)); width * count <= C; ++width) {
      const int64_t near = width * H / C;
      for (int64_t height = std::max<int64_t>(1, near - slack); height <= near + slack; ++height) {
        const int64_t last_width = C - count * width, last_height = H - count * height;
        // The last block is no larger than the others, and there on both axes or on neither.
        if (last_height < 0 || last_width > width || last_height > height ||
            (last_width == 0) != (last_height == 0)) {
          continue;
        }
        const Blocks blocks = {count, height, width,
                               count * width * height + last_width * last_height};
        if (!best || error(blocks) < error(*best)) best = blocks;
      }
    }
  }
  if (!best || static_cast<double>(error(*best)) > kBlockTolerance * static_cast<double>(wanted)) {
    throw UsageError(message("blocks along the diagonal of a weight between ", H, " hidden and ", C,
                             " residual channels cannot keep ", wanted, " entries to within 2 %",
                             best ? message(" (the nearest is ", best->kept, ")") : std::string(),
                             ": choose another bandwidth"));
  }
  return *best;
}

}  // namespace

std::string_view pattern_name(PatternKind kind) {
  return std::ranges::find(kNames, kind, &std::pair<PatternKind, std::string_view>::first)->second;
}

PatternKind pattern_kind(std::string_view name) {
  std::string known;
  for (const auto& [kind, text] : kNames) {
    if (text == name) return kind;
    known += message(known.empty() ? "" : ", ", text);
  }
  throw UsageError(message("there is no pattern called '", name, "': use one of ", known));
}

void Pattern::SpanTable::add_row(std::vector<int64_t>& columns) {
  if (first.empty()) first.push_back(0);
  std::ranges::sort(columns);
  for (const int64_t col : columns) {
    if (spans.size() > first.back() && spans.back().end == col) {
      ++spans.back().end;
    } else {
      spans.push_back({col, col + 1});
    }
  }
  first.push_back(spans.size());
}

Pattern::Pattern(int64_t rows, int64_t cols, HiddenAxis hidden, int64_t bandwidth)
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
  hidden_is_rows_ = hidden == HiddenAxis::rows;
  reach_ = bandwidth * (hidden_is_rows_ ? cols : rows) / 2;
  for (int64_t row = 0; row < rows; ++row) kept_ += band_span(row).size();
}

Pattern Pattern::dense(int64_t rows, int64_t cols) { return band(rows, cols, 0); }

Pattern Pattern::band(int64_t rows, int64_t cols, int64_t bandwidth) {
  return band(rows, cols, rows >= cols ? HiddenAxis::rows : HiddenAxis::cols, bandwidth);
}

Pattern Pattern::band(int64_t rows, int64_t cols, HiddenAxis hidden, int64_t bandwidth) {
  return Pattern(rows, cols, hidden, bandwidth);
}

Pattern Pattern::make(const PatternSource& source, int64_t rows, int64_t cols, HiddenAxis hidden,
                      int64_t bandwidth) {
  Pattern pattern(rows, cols, hidden, bandwidth);
  if (source.kind == PatternKind::band || pattern.is_dense()) return pattern;
  const auto stream = [&](const char* use, const std::string& name) {
    return IndexStream(source.mask_seed, use + name);
  };
  SpanTable table;
  std::vector<int64_t> columns;
  if (source.kind == PatternKind::random) {
    const int64_t count = std::max<int64_t>(1, (2 * pattern.kept() + rows) / (2 * rows));
    IndexStream places = stream("mask of ", source.weight);
    std::vector<int64_t> all = identity(cols);
    for (int64_t row = 0; row < rows; ++row) {
      choose(places, all, count);
      columns.assign(all.begin(), all.begin() + count);
      table.add_row(columns);
    }
  } else if (source.kind == PatternKind::block) {
    const bool fc1 = hidden == HiddenAxis::rows;
    const Blocks blocks = nearest_blocks(fc1 ? rows : cols, fc1 ? cols : rows, pattern.kept());
    const int64_t height = fc1 ? blocks.hidden : blocks.residual;
    const int64_t width = fc1 ? blocks.residual : blocks.hidden;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t block = std::min(row / height, blocks.count);
      const int64_t begin = block * width;
      const int64_t end = block < blocks.count ? begin + width : cols;
      columns.resize(static_cast<size_t>(end - begin));
      std::iota(columns.begin(), columns.end(), begin);
      table.add_row(columns);
    }
  } else {
    // place[p] is where number p of the band's shuffled axis went.
    const bool is_hidden = source.kind == PatternKind::band_permuted_hidden;
    const bool of_rows = is_hidden == (hidden == HiddenAxis::rows);
    const std::vector<int64_t> place =
        shuffled(stream(is_hidden ? "hidden order of " : "residual order of ", source.layer),
                 of_rows ? rows : cols);
    std::vector<int64_t> band_row = identity(rows);
    if (of_rows) {
      for (int64_t p = 0; p < rows; ++p)
        band_row[static_cast<size_t>(place[static_cast<size_t>(p)])] = p;
    }
    for (int64_t row = 0; row < rows; ++row) {
      const Span span = pattern.band_span(band_row[static_cast<size_t>(row)]);
      columns.clear();
      for (int64_t col = span.begin; col < span.end; ++col) {
        columns.push_back(of_rows ? col : place[static_cast<size_t>(col)]);
      }
      table.add_row(columns);
    }
  }
  pattern.replace(source.kind, std::move(table));
  return pattern;
}

void Pattern::replace(PatternKind kind, SpanTable table) {
  kind_ = kind;
  table_ = std::make_shared<const SpanTable>(std::move(table));
  kept_ = 0;
  for (const Span& span : table_->spans) kept_ += span.size();
}

Pattern::Span Pattern::band_span(int64_t row) const {
  if (bandwidth_ == 0) return {0, cols_};
  return within(row, cols_, rows_, reach_, cols_);
}

Pattern::Span Pattern::band_col_span(int64_t col) const {
  if (bandwidth_ == 0) return {0, rows_};
  return within(col, rows_, cols_, reach_, rows_);
}

Pattern::Span Pattern::row_span(int64_t row) const {
  if (!table_) return band_span(row);
  const size_t begin = table_->first[static_cast<size_t>(row)];
  const size_t end = table_->first[static_cast<size_t>(row) + 1];
  if (begin == end) return {0, 0};
  return {table_->spans[begin].begin, table_->spans[end - 1].end};
}

Pattern::Span Pattern::inputs_of(Span rows) const {
  // A band's spans move monotonically, so the first and the last row bound those between.
  if (!table_) return {row_span(rows.begin).begin, row_span(rows.end - 1).end};
  Span all = {cols_, 0};
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    each_span(row, [&](Span span) {
      all = {std::min(all.begin, span.begin), std::max(all.end, span.end)};
    });
  }
  return all.end == 0 ? Span{0, 0} : all;
}

Pattern::Span Pattern::outputs_of(Span cols) const {
  if (!table_) return {band_col_span(cols.begin).begin, band_col_span(cols.end - 1).end};
  Span all = {0, 0};
  for (int64_t row = 0; row < rows_; ++row) {
    bool reached = false;
    each_span(row, [&](Span span) { reached |= span.begin < cols.end && cols.begin < span.end; });
    if (reached) all = {all.end == 0 ? row : all.begin, row + 1};
  }
  return all;
}

bool Pattern::keeps(int64_t row, int64_t col) const {
  bool found = false;
  each_span(row, [&](Span span) { found |= col >= span.begin && col < span.end; });
  return found;
}

void Pattern::project(float* weight) const {
  if (is_dense()) return;
  for (int64_t row = 0; row < rows_; ++row) {
    float* w = weight + row * cols_;
    each_gap(row, [&](Span gap) { std::fill(w + gap.begin, w + gap.end, 0.0f); });
  }
}

std::string Pattern::text() const {
  if (bandwidth_ == 0) return "dense";
  if (kind_ == PatternKind::band) return message("band of ", bandwidth_);
  return message(pattern_name(kind_), ", as a band of ", bandwidth_);
}

}  // namespace pyllmc
