// What differs between the configuration that a training state records and the one it is to be
// continued with, and which differences were allowed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace pyllmc {

class Changes {
 public:
  // `allowed`: names of settings, or of groups of them, separated by commas: "data", "schedule",
  // "machine" (groups), "batch_size", "log", ... Throws UsageError for a name that is none.
  // `setting`: how whoever gave them says it, for messages: "--allow-changed ", "allow_changed=".
  Changes(const std::string& allowed, std::string setting);

  bool allows(std::string_view setting) const;

  // Notes every setting of which both sides do not have the same value.
  void compare(const JsonValue& recorded, const JsonValue::Object& now);
  // Throws UsageError that shows the differences which were not allowed, if there are any.
  void require_allowed(const std::string& folder) const;

  bool differs(std::string_view setting) const;
  // "batch_size 4 -> 8, learning_rate 0.0003 -> 0.001", or "".
  std::string text() const;

 private:
  struct Difference {
    std::string setting, before, now;
  };

  std::string setting_;
  std::vector<std::string> allowed_;
  std::vector<Difference> differences_;
};

}  // namespace pyllmc
