// Reads the losses out of a training log, whoever wrote it. No content makes it throw: a line is
// understood, known to hold no loss, blank, or skipped and counted.
//
// Dialects, told apart line by line by how a line begins (never after leading blanks, so that a
// program text embedded in a log cannot pass for a result):
//   s:<step> <key>:<value> ...                 ours and llm.c's main.log
//   step:<step>[/<steps>] <key>:<value> ...    modded-nanogpt
//   {"type":"val"|"train"|"test"|"train_subset","step":...,"loss":...,...}   our .jsonl
// Keys, in any order: tel or val_loss, trl or train_loss, tsl or test_loss, tsb or
// train_subset_loss (losses; the last over a fixed part of the training data); lr; norm or
// grad_norm; tokens_per_second. A line may hold several losses. Steps are kept as written
// (modded-nanogpt counts training lines from 1, the others from 0).
//
// What is taken:
//   * the last of several records of one (split, step): a resumed run repeats its steps;
//   * nan, -nan, inf, -inf as a loss, and null in a .jsonl: a diverged run must stay visible;
//   * CRLF ends, blanks at the end of a line, a UTF-8 byte order mark at the start;
//   * a line after leading NUL bytes (a log truncated under its writer).
// What is `other`: well-formed, without a loss (llm.c's `eval:`, an accuracy; a .jsonl line of
//   another type).
// What is `skipped`: any other line; a known key with a value that is not one number, a step or a
//   value out of range, a known key twice or a word without `:` (two lines run together), a NUL
//   byte inside, more than kMaxLineBytes.
// A last line without a line end may be cut: its last word counts only when it cannot be the
//   beginning of a longer one that reads differently, that is for a loss with the four decimals
//   that every dialect prints, or a non-finite one; for an object that is closed. Otherwise an lr
//   or norm in that place is dropped, and a loss makes the line `torn` and skipped.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pyllmc {

enum class LogSplit { train, val, test, train_subset };
constexpr int kLogSplits = 4;
constexpr size_t kMaxLineBytes = size_t{16} << 20;

// The records of one split, one entry each; NaN in lr, grad_norm and tokens_per_second where the
// line had none. Loss in nats per token.
struct LogSeries {
  std::vector<int64_t> step;
  std::vector<double> loss, lr, grad_norm, tokens_per_second;
};

// lines = blank + with a loss + other + skipped.
struct LogCounts {
  int64_t lines = 0;
  int64_t blank = 0;
  int64_t other = 0;
  int64_t skipped = 0;
  int64_t torn = 0;       // 1 if the last line was cut; also in skipped
  int64_t repeated = 0;   // records that a later one of the same split and step replaced
  int64_t nonfinite = 0;  // losses that are nan or inf, repeated ones included
};

struct LogTable {
  std::array<LogSeries, kLogSplits> splits;  // indexed by LogSplit; after finish() steps ascend
  LogCounts counts;
};

// Takes a log in pieces of any size; the result does not depend on where they are cut.
class LogParser {
 public:
  void feed(std::string_view piece);
  // Takes what follows the last line end, sorts each split by step and keeps the last of repeated
  // records. The parser is empty afterwards.
  LogTable finish();

 private:
  struct Line;
  void line(std::string_view text, bool ended);
  void keep(const Line& found);

  LogTable table_;
  std::string rest_;       // the beginning of a line whose end has not been seen
  bool too_long_ = false;  // rest_ was given up; skip to the next line end
};

// Reads a whole file. Throws FormatError if it cannot be opened or read.
LogTable parse_log(const std::string& path);

}  // namespace pyllmc
