#include "formats/log_parser.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "core/error.h"

namespace pyllmc {

namespace {

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kPieceBytes = size_t{1} << 20;

enum class Verdict { loss, other, skipped };
enum class Key { unknown, train, val, test, train_subset, lr, grad_norm, tokens_per_second };
constexpr int kKeys = 8;

struct KeyName {
  std::string_view name;
  Key key;
};
constexpr KeyName kKeyNames[] = {
    {"trl", Key::train},
    {"train_loss", Key::train},
    {"tel", Key::val},
    {"val_loss", Key::val},
    {"tsl", Key::test},
    {"test_loss", Key::test},
    {"tsb", Key::train_subset},
    {"train_subset_loss", Key::train_subset},
    {"lr", Key::lr},
    {"norm", Key::grad_norm},
    {"grad_norm", Key::grad_norm},
    {"tokens_per_second", Key::tokens_per_second},
};

Key key_of(std::string_view name) {
  for (const KeyName& known : kKeyNames) {
    if (known.name == name) return known.key;
  }
  return Key::unknown;
}

// The keys that are a split's loss.
constexpr std::pair<Key, LogSplit> kLosses[] = {
    {Key::train, LogSplit::train},
    {Key::val, LogSplit::val},
    {Key::test, LogSplit::test},
    {Key::train_subset, LogSplit::train_subset},
};

bool is_loss(Key key) {
  return std::any_of(std::begin(kLosses), std::end(kLosses),
                     [key](const auto& loss) { return loss.first == key; });
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// The number that fills all of `text`. from_chars knows nan, inf and their signs, not a plus.
std::optional<double> to_double(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> to_step(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// Whether a loss at the very end of an unfinished line is whole.
bool surely_whole(std::string_view text, double value) {
  const size_t point = text.find('.');
  return !std::isfinite(value) || (point != text.npos && text.size() - point > 4);
}

// Walks the values of one JSON object without building it.
class ObjectReader {
 public:
  explicit ObjectReader(std::string_view text) : rest_(text) {}

  // Calls take(key, value) with the raw text of both (strings without their quotes). False if the
  // text is not one closed object.
  template <class Take>
  bool each(Take take) {
    if (!eat('{')) return false;
    if (eat('}')) return at_end();
    do {
      std::string_view key, value;
      if (!string(key) || !eat(':') || !any(value)) return false;
      take(key, value);
    } while (eat(','));
    return eat('}') && at_end();
  }

 private:
  void skip_blanks() {
    while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
  }
  bool at_end() {
    skip_blanks();
    return rest_.empty();
  }
  bool eat(char c) {
    skip_blanks();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool string(std::string_view& out) {
    if (!eat('"')) return false;
    for (size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '\\') {
        ++i;
      } else if (rest_[i] == '"') {
        out = rest_.substr(0, i);
        rest_.remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  }
  bool any(std::string_view& out) {
    skip_blanks();
    if (rest_.empty()) return false;
    if (rest_.front() == '"') return string(out);
    if (rest_.front() == '{' || rest_.front() == '[') return nested();
    const size_t size = std::min(rest_.find_first_of(",}] \t\r"), rest_.size());
    out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return size > 0;
  }
  // Nothing nested is ever used: only its end has to be found.
  bool nested() {
    int64_t depth = 0;
    std::string_view ignored;
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == '"') {
        if (!string(ignored)) return false;
        continue;
      }
      rest_.remove_prefix(1);
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return true;
    }
    return false;
  }

  std::string_view rest_;
};

}  // namespace

// What one line said.
struct LogParser::Line {
  int64_t step = -1;
  std::array<std::optional<double>, kKeys> values;

  std::optional<double>& operator[](Key key) { return values[static_cast<size_t>(key)]; }
  double get(Key key) const { return values[static_cast<size_t>(key)].value_or(kAbsent); }

  Verdict pairs(std::string_view text, bool ended);
  Verdict object(std::string_view text);
};

Verdict LogParser::Line::pairs(std::string_view text, bool ended) {
  text.remove_prefix(text.find(':') + 1);
  const auto next_word = [&text] {
    const size_t size = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, size);
    text.remove_prefix(std::min(text.find_first_not_of(" \t", size), text.size()));
    return word;
  };

  std::string_view number = next_word();
  if (const size_t slash = number.find('/'); slash != number.npos) {
    if (!to_step(number.substr(slash + 1))) return Verdict::skipped;
    number = number.substr(0, slash);
  }
  const std::optional<int64_t> read_step = to_step(number);
  if (!read_step || text.empty()) return Verdict::skipped;
  step = *read_step;

  bool has_loss = false;
  while (!text.empty()) {
    const std::string_view word = next_word();
    const bool may_be_cut = text.empty() && !ended;
    const size_t colon = word.find(':');
    const Key key = colon == word.npos ? Key::unknown : key_of(word.substr(0, colon));
    if (may_be_cut && !is_loss(key)) break;
    if (colon == word.npos || colon == 0) return Verdict::skipped;
    if (key == Key::unknown) {
      // `s` and `step` begin a line; inside one they mean that two lines ran together.
      const std::string_view name = word.substr(0, colon);
      if (name == "s" || name == "step") return Verdict::skipped;
      continue;
    }
    const std::string_view digits = word.substr(colon + 1);
    const std::optional<double> value = to_double(digits);
    if (!value || (*this)[key]) return Verdict::skipped;
    if (may_be_cut && !surely_whole(digits, *value)) return Verdict::skipped;
    (*this)[key] = value;
    has_loss = has_loss || is_loss(key);
  }
  if (has_loss) return Verdict::loss;
  return ended ? Verdict::other : Verdict::skipped;
}

Verdict LogParser::Line::object(std::string_view text) {
  std::string_view type, step_text, loss_text;
  bool numbers = true;
  const bool closed = ObjectReader(text).each([&](std::string_view key, std::string_view value) {
    if (key == "type") type = value;
    if (key == "step") step_text = value;
    if (key == "loss") loss_text = value;
    const Key known = key_of(key);
    if (known != Key::unknown && !is_loss(known) && value != "null") {
      (*this)[known] = to_double(value);
      numbers = numbers && (*this)[known];
    }
  });
  if (!closed || type.empty()) return Verdict::skipped;

  Key split = Key::unknown;
  if (type == "train") split = Key::train;
  if (type == "val") split = Key::val;
  if (type == "test") split = Key::test;
  if (type == "train_subset") split = Key::train_subset;
  if (split == Key::unknown) return Verdict::other;

  const std::optional<int64_t> read_step = to_step(step_text);
  const std::optional<double> loss = loss_text == "null" ? kAbsent : to_double(loss_text);
  if (!numbers || !read_step || !loss) return Verdict::skipped;
  step = *read_step;
  (*this)[split] = loss;
  return Verdict::loss;
}

void LogParser::keep(const Line& found) {
  for (const auto& [key, split] : kLosses) {
    const std::optional<double>& loss = found.values[static_cast<size_t>(key)];
    if (!loss) continue;
    LogSeries& series = table_.splits[static_cast<size_t>(split)];
    series.step.push_back(found.step);
    series.loss.push_back(*loss);
    series.lr.push_back(found.get(Key::lr));
    series.grad_norm.push_back(found.get(Key::grad_norm));
    series.tokens_per_second.push_back(found.get(Key::tokens_per_second));
    if (!std::isfinite(*loss)) ++table_.counts.nonfinite;
  }
}

void LogParser::line(std::string_view text, bool ended) {
  LogCounts& counts = table_.counts;
  const bool first = counts.lines++ == 0;
  if (first && text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  const bool had_nul = !text.empty() && text.front() == '\0';
  while (!text.empty() && text.front() == '\0') text.remove_prefix(1);
  bool blank_behind = false;
  while (!text.empty() && is_blank(text.back())) {
    text.remove_suffix(1);
    blank_behind = true;
  }
  if (text.empty()) {
    ++(had_nul ? counts.skipped : counts.blank);
    return;
  }

  Line found;
  Verdict verdict = Verdict::skipped;
  if (text.find('\0') == text.npos && text.size() <= kMaxLineBytes) {
    const auto begins = [&](std::string_view word) {
      return text.substr(0, word.size()) == word && text.size() > word.size() &&
             is_digit(text[word.size()]);
    };
    if (text.front() == '{') {
      verdict = found.object(text);
    } else if (begins("s:") || begins("step:")) {
      verdict = found.pairs(text, ended || blank_behind);
    }
  }
  switch (verdict) {
    case Verdict::loss:
      keep(found);
      break;
    case Verdict::other:
      ++counts.other;
      break;
    case Verdict::skipped:
      ++counts.skipped;
      if (!ended) counts.torn = 1;
      break;
  }
}

void LogParser::feed(std::string_view piece) {
  while (!piece.empty()) {
    const void* found = std::memchr(piece.data(), '\n', piece.size());
    const size_t size =
        found ? static_cast<size_t>(static_cast<const char*>(found) - piece.data()) : piece.size();
    const std::string_view part = piece.substr(0, size);
    if (!too_long_ && rest_.size() + part.size() > kMaxLineBytes) {
      too_long_ = true;
      rest_ = std::string();
    }
    if (found) {
      if (too_long_) {
        ++table_.counts.lines;
        ++table_.counts.skipped;
        too_long_ = false;
      } else if (rest_.empty()) {
        line(part, true);
      } else {
        rest_ += part;
        line(rest_, true);
        rest_.clear();
      }
      piece.remove_prefix(size + 1);
    } else {
      if (!too_long_) rest_ += part;
      return;
    }
  }
}

namespace {

// Sorts by step and keeps the last of equal steps; returns how many were dropped.
int64_t settle(LogSeries& series) {
  std::vector<int64_t>& step = series.step;
  // A run that was never resumed is in order already.
  if (std::adjacent_find(step.begin(), step.end(), std::greater_equal<>()) == step.end()) return 0;

  std::vector<size_t> order(step.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return step[a] < step[b]; });
  std::vector<size_t> kept;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i + 1 == order.size() || step[order[i]] != step[order[i + 1]]) kept.push_back(order[i]);
  }
  const int64_t dropped = static_cast<int64_t>(order.size() - kept.size());
  const auto pick = [&kept](auto& values) {
    std::remove_reference_t<decltype(values)> picked;
    picked.reserve(kept.size());
    for (const size_t i : kept) picked.push_back(values[i]);
    values = std::move(picked);
  };
  pick(series.loss);
  pick(series.lr);
  pick(series.grad_norm);
  pick(series.tokens_per_second);
  pick(step);
  return dropped;
}

}  // namespace

LogTable LogParser::finish() {
  if (too_long_) {
    ++table_.counts.lines;
    ++table_.counts.skipped;
    table_.counts.torn = 1;
  } else if (!rest_.empty()) {
    line(rest_, false);
  }
  for (LogSeries& series : table_.splits) table_.counts.repeated += settle(series);
  LogTable done = std::move(table_);
  *this = LogParser();
  return done;
}

LogTable parse_log(const std::string& path) {
  const auto refuse = [&path](const char* what) -> FormatError {
    return FormatError(message("cannot ", what, " the log ", path, " (", std::strerror(errno),
                               "): give a file that exists and may be read"));
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw refuse("open");
  const auto close = [](const int* open_fd) { ::close(*open_fd); };
  const std::unique_ptr<const int, decltype(close)> closer(&fd, close);

  // read(), not a mapping: a log may be truncated by its writer while it is read here.
  LogParser parser;
  std::vector<char> piece(kPieceBytes);
  while (true) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw refuse("read");
    if (got == 0) return parser.finish();
    parser.feed({piece.data(), static_cast<size_t>(got)});
  }
}

}  // namespace pyllmc
