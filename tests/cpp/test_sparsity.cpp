#include "check.h"
#include "core/error.h"
#include "sparsity/pattern.h"

using namespace pyllmc;

namespace {

constexpr PatternKind kKinds[] = {PatternKind::band, PatternKind::random, PatternKind::block,
                                  PatternKind::band_permuted_residual,
                                  PatternKind::band_permuted_hidden};

// Every answer of a pattern against keeps(), entry by entry.
void check_pattern(const Pattern& pattern) {
  const int64_t rows = pattern.rows(), cols = pattern.cols();
  std::vector<float> weight(static_cast<size_t>(rows * cols), 1.0f);
  pattern.project(weight.data());
  int64_t kept = 0;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<int> covered(static_cast<size_t>(cols), 0);
    pattern.each_span(r, [&](Pattern::Span span) {
      for (int64_t c = span.begin; c < span.end; ++c) covered.at(static_cast<size_t>(c)) += 1;
    });
    pattern.each_gap(r, [&](Pattern::Span span) {
      for (int64_t c = span.begin; c < span.end; ++c) covered.at(static_cast<size_t>(c)) -= 1;
    });
    for (int64_t c = 0; c < cols; ++c) {
      const bool keeps = pattern.keeps(r, c);
      kept += keeps;
      CHECK(covered[static_cast<size_t>(c)] == (keeps ? 1 : -1));
      CHECK(weight[static_cast<size_t>(r * cols + c)] == (keeps ? 1.0f : 0.0f));
      if (!keeps) continue;
      const Pattern::Span row = pattern.row_span(r);
      CHECK(row.begin <= c && c < row.end);
      const Pattern::Span inputs = pattern.inputs_of({r, r + 1});
      CHECK(inputs.begin <= c && c < inputs.end);
      const Pattern::Span outputs = pattern.outputs_of({c, c + 1});
      CHECK(outputs.begin <= r && r < outputs.end);
    }
  }
  CHECK(kept == pattern.kept());
}

}  // namespace

TEST(every_pattern_agrees_with_itself) {
  const std::pair<int64_t, int64_t> shapes[] = {{48, 12}, {12, 48}, {50, 7}, {1, 9}, {16, 16}};
  for (const auto& [rows, cols] : shapes) {
    check_pattern(Pattern::dense(rows, cols));
    for (const int64_t bandwidth : {1, 5, 12, 40, 1000}) {
      check_pattern(Pattern::band(rows, cols, bandwidth));
      for (const PatternKind kind : kKinds) {
        for (const HiddenAxis axis : {HiddenAxis::rows, HiddenAxis::cols}) {
          try {
            const PatternSource source = {.kind = kind, .layer = "h.0", .weight = "fcw"};
            check_pattern(Pattern::make(source, rows, cols, axis, bandwidth));
          } catch (const UsageError&) {
            CHECK(kind == PatternKind::block);  // no blocks of about that size
          }
        }
      }
    }
  }
}

TEST(band_keeps_what_the_formula_says) {
  const int64_t H = 48, C = 12, bandwidth = 10;
  const Pattern fc1 = Pattern::band(H, C, HiddenAxis::rows, bandwidth);
  const Pattern fc2 = Pattern::band(C, H, HiddenAxis::cols, bandwidth);
  for (int64_t j = 0; j < H; ++j) {
    for (int64_t i = 0; i < C; ++i) {
      const bool kept = 2 * std::abs(j * C - i * H) <= bandwidth * C;
      CHECK(fc1.keeps(j, i) == kept);
      CHECK(fc2.keeps(i, j) == kept);
    }
  }
}

TEST(impossible_patterns_are_refused) {
  CHECK_THROWS(UsageError, Pattern::band(0, 4, 2));
  CHECK_THROWS(UsageError, Pattern::band(4, 4, -1));
  CHECK_THROWS(UsageError, pattern_kind("diagonal"));
}
