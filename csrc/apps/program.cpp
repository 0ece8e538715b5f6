#include "apps/program.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "core/error.h"

namespace pyllmc {

namespace {

// libgomp's threads spin between two parallel loops. On two cores with two other busy processes a
// step of the demo's shape took 317 to 440 ms so and 125 to 138 ms with sleeping threads; on idle
// cores 81 and 84 ms. How they wait is read from the environment before main(), so it is set and
// the program starts again in its place.
void let_threads_sleep(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);  // returns only when it fails: then threads spin
}

}  // namespace

int run_program(const char* program, char** argv, const std::function<int()>& body) {
  let_threads_sleep(argv);
  const auto say = [&](const char* sentence) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s: %s\n", program, sentence);
  };
#ifdef SIGXFSZ
  // A file-size limit is then an error of the write, which is reported.
  std::signal(SIGXFSZ, SIG_IGN);
#endif
  try {
    return body();
  } catch (const Error& error) {
    say(error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    say("out of memory; use a smaller batch, sequence or model");
  } catch (const std::exception& error) {
    say(error.what());
  }
  return static_cast<int>(ExitCode::failed);
}

std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
    control ? shown += "\xEF\xBF\xBD" : shown += c;
  }
  return shown;
}

}  // namespace pyllmc
