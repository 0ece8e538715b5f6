// What both programs share: errors as one sentence with an exit code, and sampled text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/build.h"

namespace pyllmc {

// Runs `body`; an Error becomes "<program>: <sentence>" on stderr and its exit code. Starts the
// program anew, once, with OMP_WAIT_POLICY=passive if the environment has no word on waiting.
int run_program(const char* program, char** argv, const std::function<int()>& body);

// The text with U+FFFD for control characters other than newline and tab: an untrained model draws
// any byte, and some of them steer a terminal.
std::string printable(std::string_view text);

}  // namespace pyllmc
