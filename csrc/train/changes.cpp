#include "train/changes.h"

#include <algorithm>

#include "core/error.h"

namespace pyllmc {
namespace {

// Settings of which another value is still the same run continued. What is not here (the model's
// shape and pattern) can never differ: the state's tensors would mean something else.
constexpr std::string_view kMayDiffer[] = {"accumulate",
                                           "batch_size",
                                           "build",
                                           "data_seed",
                                           "execution",
                                           "grad_clip",
                                           "init_seed",
                                           "instruction_set",
                                           "learning_rate",
                                           "log",
                                           "mask_init",
                                           "min_lr",
                                           "precision",
                                           "sample_every",
                                           "sample_length",
                                           "sequence_length",
                                           "steps",
                                           "test_fingerprint",
                                           "train_eval_batches",
                                           "train_fingerprint",
                                           "train_tokens",
                                           "val_batches",
                                           "val_every",
                                           "val_fingerprint",
                                           "warmup",
                                           "weight_decay"};

struct Group {
  std::string_view name;
  std::vector<std::string_view> settings;
};

const std::vector<Group>& groups() {
  static const std::vector<Group> all = {
      {"data", {"train_fingerprint", "train_tokens", "val_fingerprint", "test_fingerprint"}},
      {"schedule", {"learning_rate", "warmup", "min_lr", "steps"}},
      {"machine", {"instruction_set", "build"}}};
  return all;
}

bool may_differ(std::string_view setting) {
  return std::ranges::find(kMayDiffer, setting) != std::end(kMayDiffer);
}

}  // namespace

Changes::Changes(const std::string& allowed, std::string setting) : setting_(std::move(setting)) {
  for (size_t begin = 0; begin < allowed.size();) {
    const size_t end = std::min(allowed.find(',', begin), allowed.size());
    const std::string name = allowed.substr(begin, end - begin);
    begin = end + 1;
    const auto group = std::ranges::find(groups(), name, &Group::name);
    if (group != groups().end()) {
      allowed_.insert(allowed_.end(), group->settings.begin(), group->settings.end());
    } else if (may_differ(name)) {
      allowed_.push_back(name);
    } else {
      std::string names;
      for (const Group& other : groups()) names += std::string(other.name) + ", ";
      for (const std::string_view other : kMayDiffer) names += std::string(other) + ", ";
      names.resize(names.size() - 2);
      throw UsageError(
          message(setting_, name, " names nothing that may differ; these may: ", names));
    }
  }
}

bool Changes::allows(std::string_view setting) const {
  return std::ranges::find(allowed_, setting) != allowed_.end();
}

void Changes::compare(const JsonValue& recorded, const JsonValue::Object& now) {
  for (const auto& [setting, value] : now) {
    const JsonValue* before = recorded.find(setting);
    const std::string before_text = before ? before->text() : "none", now_text = value.text();
    if (before_text != now_text) differences_.push_back({setting, before_text, now_text});
  }
  for (const auto& [setting, value] : recorded.object()) {
    const auto same = [&setting](const auto& member) { return member.first == setting; };
    if (std::ranges::none_of(now, same)) differences_.push_back({setting, value.text(), "none"});
  }
}

void Changes::require_allowed(const std::string& folder) const {
  std::string seen, allowable, fixed;
  for (const Difference& d : differences_) {
    if (allows(d.setting)) continue;
    seen += message(seen.empty() ? "" : ", ", d.setting, " was ", d.before, " and is ", d.now);
    std::string& list = may_differ(d.setting) ? allowable : fixed;
    list += (list.empty() ? "" : ",") + d.setting;
  }
  if (seen.empty()) return;
  throw UsageError(message(folder, " was saved by another run: ", seen, "; give the same",
                           fixed.empty()
                               ? message(", or accept the difference with ", setting_, allowable)
                               : message(": a run cannot be continued with another ", fixed)));
}

bool Changes::differs(std::string_view setting) const {
  return std::ranges::find(differences_, setting, &Difference::setting) != differences_.end();
}

std::string Changes::text() const {
  std::string out;
  for (const Difference& d : differences_) {
    out += message(out.empty() ? "" : ", ", d.setting, " ", d.before, " -> ", d.now);
  }
  return out;
}

}  // namespace pyllmc
