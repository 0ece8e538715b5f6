#include "formats/file_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/error.h"

namespace pyllmc {

namespace fs = std::filesystem;

FileLock::FileLock(const std::string& path, const std::string& guarded) {
  std::error_code ignored;
  if (const fs::path folder = fs::path(path).parent_path(); !folder.empty()) {
    fs::create_directories(folder, ignored);
  }
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) return;
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd_, F_SETLK, &whole) == 0) return;
  const bool held = errno == EACCES || errno == EAGAIN;
  const bool known = held && ::fcntl(fd_, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  ::close(std::exchange(fd_, -1));
  if (!held) return;
  throw UsageError(message(guarded, " is in use by another program",
                           known ? message(" (process ", whole.l_pid, ")") : std::string(),
                           "; wait until it has ended, or write to another file"));
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace pyllmc
