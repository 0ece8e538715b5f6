// What both programs' main() share: errors as one sentence with an exit code.
#pragma once

#include <functional>
#include <string>

namespace pyllmc {

// Runs `body`; an Error becomes "<program>: <sentence>" on stderr and its exit code.
int run_program(const char* program, const std::function<int()>& body);

const char* version();

}  // namespace pyllmc
