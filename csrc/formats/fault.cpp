#include "formats/fault.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace pyllmc {
namespace {

constexpr std::string_view kNames[] = {
#define PYLLMC_FAULT_POINT(name) #name,
    PYLLMC_FAULT_POINTS(PYLLMC_FAULT_POINT)
#undef PYLLMC_FAULT_POINT
};

struct Plan {
  int point = -1;
  int left = 0;  // times that the point is still to be passed
};

Plan read_plan() {
  const char* text = std::getenv("PYLLMC_FAULT");
  if (!text || !*text) return {};
  std::string_view words = text;
  const auto refuse = [&] {
    throw UsageError(message("PYLLMC_FAULT is '", text,
                             "', expected kill@<point> or kill@<point>:<n> with a point that "
                             "train_banded --fault-points lists"));
  };
  if (!words.starts_with("kill@")) refuse();
  words.remove_prefix(5);
  Plan plan{.left = 1};
  if (const size_t colon = words.find(':'); colon != words.npos) {
    const std::string_view count = words.substr(colon + 1);
    const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), plan.left);
    if (error != std::errc() || end != count.data() + count.size() || plan.left < 1) refuse();
    words = words.substr(0, colon);
  }
  const auto* found = std::ranges::find(kNames, words);
  if (found == std::end(kNames)) refuse();
  plan.point = static_cast<int>(found - kNames);
  return plan;
}

Plan& plan() {
  static Plan once = read_plan();
  return once;
}

}  // namespace

void fault_point(FaultPoint point) {
  Plan& p = plan();
  if (static_cast<int>(point) == p.point && --p.left == 0) std::raise(SIGKILL);
}

std::vector<std::string_view> fault_point_names() { return {std::begin(kNames), std::end(kNames)}; }

void check_fault_plan() { plan(); }

}  // namespace pyllmc
