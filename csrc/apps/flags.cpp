#include "apps/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/text.h"

namespace pyllmc {
namespace {

int64_t whole_number(const std::string& flag, const std::string& text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end) {
    throw UsageError(message(flag, " needs a whole number, got '", text, "'"));
  }
  return value;
}

double real_number(const std::string& flag, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !std::isfinite(value)) {
    throw UsageError(message(flag, " needs a number, got '", text, "'"));
  }
  return value;
}

std::string number_text(double value) { return message(value); }

// Levenshtein distance, for "did you mean".
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

void Flags::group(const std::string& title) { next_group_ = title; }

void Flags::add(Flag flag) {
  flag.group = std::move(next_group_);
  next_group_.clear();
  flags_.push_back(std::move(flag));
}

void Flags::text(const std::string& short_names, const std::string& name, std::string* target,
                 const std::string& value_name, const std::string& help, const std::string& shown) {
  add({short_names, name, value_name, help, shown.empty() ? *target : shown,
       [target](const std::string&, const std::string& value) { *target = value; }, true});
}

void Flags::integer(const std::string& short_names, const std::string& name, int64_t* target,
                    const std::string& help, const std::string& shown) {
  action(short_names, name, help, shown.empty() ? std::to_string(*target) : shown,
         [target](int64_t value) { *target = value; });
}

void Flags::integer(const std::string& short_names, const std::string& name,
                    std::optional<int64_t>* target, const std::string& help,
                    const std::string& shown) {
  action(short_names, name, help, shown, [target](int64_t value) { *target = value; });
}

void Flags::integers(const std::string& short_names, const std::string& name,
                     std::vector<int64_t>* target, const std::string& help) {
  add({short_names, name, "N", help, join(*target),
       [target](const std::string& flag, const std::string& value) {
         target->clear();
         for (size_t begin = 0; begin <= value.size();) {
           const size_t end = std::min(value.find(',', begin), value.size());
           target->push_back(whole_number(flag, value.substr(begin, end - begin)));
           begin = end + 1;
         }
       }});
}

void Flags::number(const std::string& short_names, const std::string& name, double* target,
                   const std::string& help) {
  add({short_names, name, "X", help, number_text(*target),
       [target](const std::string& flag, const std::string& value) {
         *target = real_number(flag, value);
       }});
}

void Flags::number(const std::string& short_names, const std::string& name,
                   std::optional<double>* target, const std::string& help,
                   const std::string& shown) {
  add({short_names, name, "X", help, shown,
       [target](const std::string& flag, const std::string& value) {
         *target = real_number(flag, value);
       }});
}

void Flags::action(const std::string& short_names, const std::string& name, const std::string& help,
                   const std::string& shown, std::function<void(int64_t)> set) {
  add({short_names, name, "N", help, shown,
       [set](const std::string& flag, const std::string& value) {
         set(whole_number(flag, value));
       }});
}

void Flags::toggle(const std::string& name, bool* target, const std::string& help) {
  add({.short_names = "",
       .name = name,
       .value_name = "",
       .help = help,
       .shown = "",
       .set = [target](const std::string&, const std::string&) { *target = true; },
       .alone = true});
}

const Flags::Flag* Flags::find(const std::string& word) const {
  for (const Flag& flag : flags_) {
    if (word.rfind("--", 0) == 0 && word.substr(2) == flag.name) return &flag;
    if (word.size() == 2 && word[0] == '-' && flag.short_names.find(word[1]) != std::string::npos) {
      return &flag;
    }
  }
  return nullptr;
}

// What may have been meant: a long name, or a short one with its value grown on; "" = no idea.
std::string Flags::guess(const std::string& word) const {
  if (word.size() < 3 || word[0] != '-') return "";
  const std::string name = word.substr(word[1] == '-' ? 2 : 1);
  size_t least = std::min<size_t>(4, name.size());
  const Flag* nearest = nullptr;
  for (const Flag& flag : flags_) {
    size_t distance = edit_distance(name, flag.name);
    if (name.size() > 3) {
      if (flag.name.starts_with(name)) distance = 1;
      const size_t dash = flag.name.find('-');  // --bandwith for --fc1-bandwidth
      if (dash != std::string::npos) {
        distance = std::min(distance, 1 + edit_distance(name, flag.name.substr(dash + 1)));
      }
    }
    if (distance < least) {
      least = distance;
      nearest = &flag;
    }
  }
  if (nearest) return message("--", nearest->name);
  if (word[1] != '-' && find(word.substr(0, 2))) {
    return message(word.substr(0, 2), " ", word.substr(word[2] == '=' ? 3 : 2));
  }
  return "";
}

void Flags::refuse(const std::string& word) const {
  const std::string meant = guess(word);
  const std::string hint =
      meant.empty() ? "see " + program_ + " --help" : "did you mean " + meant + "?";
  throw UsageError(
      message(word.rfind("-", 0) == 0 ? "unknown flag '" : "unexpected word '", word, "': ", hint));
}

Flags::Outcome Flags::parse(int argc, const char* const* argv) const {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "-h" || word == "--help") return Outcome::help;
    if (word == "--version") return Outcome::version;
    std::optional<std::string> value;
    if (const size_t equals = word.find('='); word.rfind("--", 0) == 0 && equals != word.npos) {
      value = word.substr(equals + 1);
      word.resize(equals);
    }
    const Flag* flag = find(word);
    if (!flag) refuse(word);
    if (flag->alone) {
      if (value) throw UsageError(message(word, " takes no value, got '", *value, "'"));
      value.emplace();
    }
    if (!value) {
      if (i + 1 == argc) throw UsageError(message(word, " needs a value after it"));
      value = argv[++i];
      if (flag->any_text && find(*value)) {
        throw UsageError(message(word, " needs a value after it, got the flag '", *value,
                                 "'; write --", flag->name, "=", *value, " if that is the value"));
      }
    }
    flag->set(word, *value);
  }
  return Outcome::run;
}

std::string Flags::help() const {
  std::string out = "Usage: " + program_ + " [flags]\n\n" + synopsis_ + "\n\n" + examples_;
  for (const Flag& flag : flags_) {
    if (!flag.group.empty()) out += "\n" + flag.group + "\n";
    std::string names = "  ";
    for (char c : flag.short_names) names += std::string("-") + c + ", ";
    names += "--" + flag.name + (flag.alone ? "" : " " + flag.value_name);
    constexpr size_t kColumn = 34;
    if (names.size() + 2 > kColumn) {
      out += names + "\n" + std::string(kColumn, ' ');
    } else {
      out += names + std::string(kColumn - names.size(), ' ');
    }
    out += flag.help;
    if (!flag.shown.empty()) out += " [" + flag.shown + "]";
    out += "\n";
  }
  return out + "\n  -h, --help                      this text\n" +
         "      --version                   the version\n\n" + epilogue_;
}

}  // namespace pyllmc
