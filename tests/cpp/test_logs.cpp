#include <cmath>

#include "check.h"
#include "core/error.h"
#include "formats/log_parser.h"
#include "samples.h"

using namespace pyllmc;
using namespace pyllmc::test;

namespace {

LogTable parse(std::string_view text, size_t piece) {
  LogParser parser;
  for (size_t at = 0; at < text.size(); at += piece) {
    // A copy of its own, so that reading past a piece is seen.
    const std::string part(text.substr(at, piece));
    parser.feed(part);
  }
  return parser.finish();
}

const LogSeries& of(const LogTable& table, LogSplit split) {
  return table.splits[static_cast<size_t>(split)];
}

}  // namespace

TEST(logs_give_the_same_in_pieces_of_any_size) {
  const std::string text = log_sample();
  for (size_t piece = 1; piece < text.size() + 2; ++piece) {
    const LogTable table = parse(text, piece);
    CHECK((of(table, LogSplit::val).step == std::vector<int64_t>{0, 1, 3}));
    CHECK((of(table, LogSplit::val).loss == std::vector<double>{10.8544, 2.5, 4.5}));
    CHECK(of(table, LogSplit::train).grad_norm[0] == 1.25);
    CHECK(std::isnan(of(table, LogSplit::train_subset).loss[0]));
    CHECK(table.counts.torn == 1 && table.counts.skipped == 1 && table.counts.blank == 1);
  }
}

TEST(logs_cut_anywhere_are_parsed) {
  const std::string text = log_sample();
  for (size_t end = 0; end <= text.size(); ++end) {
    const LogTable table = parse(std::string_view(text).substr(0, end), 7);
    CHECK(of(table, LogSplit::val).step.size() <= 3);
  }
}

TEST(lines_without_an_end_do_not_grow_without_limit) {
  LogParser parser;
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) parser.feed(piece);
  const LogTable table = parser.finish();
  CHECK(table.counts.lines == 1 && table.counts.skipped == 1);
}

TEST(log_files_are_read_and_missing_ones_refused) {
  const TemporaryFolder folder;
  put(folder / "log.txt", log_sample());
  CHECK(parse_log(folder / "log.txt").counts.lines == 7);
  CHECK_THROWS(FormatError, parse_log(folder / "none.txt"));
}
