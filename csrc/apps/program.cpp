#include "apps/program.h"

#include <csignal>
#include <cstdio>
#include <new>

#include "core/error.h"

namespace pyllmc {

int run_program(const char* program, const std::function<int()>& body) {
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
