// Typed errors. The core throws them with the value seen and what was expected; only the
// programs and the command line turn them into a sentence on stderr and an exit code.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace pyllmc {

// Exit codes of every program and of the command line (documented in --help).
enum class ExitCode : int {
  ok = 0,
  failed = 1,  // some runs failed; a file could not be written
  usage = 2,
  diverged = 3,
  bad_file = 4,
  no_device = 5,
  preempted = 75,
  interrupted = 130,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// A setting or argument that cannot work (a flag, a shape, more memory than there is).
struct UsageError : Error {
  explicit UsageError(const std::string& m) : Error(ExitCode::usage, m) {}
};

// A file that is not what it should be: missing, truncated, wrong magic, sizes that disagree.
struct FormatError : Error {
  explicit FormatError(const std::string& m) : Error(ExitCode::bad_file, m) {}
};

// A file that could not be written (full disk, read-only folder).
struct WriteError : Error {
  explicit WriteError(const std::string& m) : Error(ExitCode::failed, m) {}
};

// A loss or gradient that is not finite.
struct DivergedError : Error {
  explicit DivergedError(const std::string& m) : Error(ExitCode::diverged, m) {}
};

// A device that was asked for and is not there.
struct DeviceError : Error {
  explicit DeviceError(const std::string& m) : Error(ExitCode::no_device, m) {}
};

// message("T = ", 300, " exceeds maxT = ", 256)
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace pyllmc
