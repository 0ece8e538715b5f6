// Command-line flags as a table: each has an optional short and a long name, a value and a
// sentence. The table parses, refuses with what was seen and expected, and prints the help.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pyllmc {

class Flags {
 public:
  // `synopsis` and `examples` open the help, `epilogue` closes it.
  Flags(std::string program, std::string synopsis, std::string examples, std::string epilogue)
      : program_(std::move(program)),
        synopsis_(std::move(synopsis)),
        examples_(std::move(examples)),
        epilogue_(std::move(epilogue)) {}

  // Starts a group of flags in the help.
  void group(const std::string& title);

  // `short_names` such as "1w" means -1 and -w. The target's value at this time is the default that
  // the help shows; `shown` replaces it.
  void text(const std::string& short_names, const std::string& name, std::string* target,
            const std::string& value_name, const std::string& help, const std::string& shown = "");
  void integer(const std::string& short_names, const std::string& name, int64_t* target,
               const std::string& help, const std::string& shown = "");
  void integer(const std::string& short_names, const std::string& name,
               std::optional<int64_t>* target, const std::string& help, const std::string& shown);
  // One whole number, or several separated by commas.
  void integers(const std::string& short_names, const std::string& name,
                std::vector<int64_t>* target, const std::string& help);
  void number(const std::string& short_names, const std::string& name, double* target,
              const std::string& help);
  void number(const std::string& short_names, const std::string& name,
              std::optional<double>* target, const std::string& help, const std::string& shown);
  // A flag whose whole number is handed to `set`.
  void action(const std::string& short_names, const std::string& name, const std::string& help,
              const std::string& shown, std::function<void(int64_t)> set);
  // A flag without a value, which sets the target.
  void toggle(const std::string& name, bool* target, const std::string& help);

  enum class Outcome { run, help, version };
  // Throws UsageError for unknown flags, missing or malformed values. Returns what is to be done.
  Outcome parse(int argc, const char* const* argv) const;

  std::string help() const;

 private:
  struct Flag {
    std::string short_names, name, value_name, help, shown;
    std::function<void(const std::string& flag, const std::string& value)> set;
    bool any_text = false;  // takes any word as its value, so a flag there may be a mistake
    bool alone = false;     // takes no value
    std::string group{};    // title that precedes this flag, "" = none
  };
  void add(Flag flag);
  const Flag* find(const std::string& word) const;
  std::string guess(const std::string& word) const;
  [[noreturn]] void refuse(const std::string& word) const;

  std::string program_, synopsis_, examples_, epilogue_;
  std::string next_group_;
  std::vector<Flag> flags_;
};

}  // namespace pyllmc
