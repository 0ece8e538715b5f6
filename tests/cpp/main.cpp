// Runs every test, or those whose names contain an argument.
#include <cstring>
#include <exception>

#include "check.h"

int main(int argc, char** argv) {
  using namespace pyllmc::test;
  int ran = 0;
  for (const Case& c : cases()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strstr(c.name, argv[i]);
    if (!wanted) continue;
    ++ran;
    const int before = failures();
    try {
      c.run();
    } catch (const std::exception& error) {
      ++failures();
      std::fprintf(stderr, "%s: %s\n", c.name, error.what());
    }
    if (failures() > before) std::fprintf(stderr, "FAILED %s\n", c.name);
  }
  std::printf("%d C++ tests, %d checks failed\n", ran, failures());
  return failures() > 0 || ran == 0;
}
