#include "formats/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "formats/fault.h"

namespace pyllmc {

namespace fs = std::filesystem;

void throw_write_error(const char* action, const std::string& path, int error) {
  const char* hint = "";
  if (error == ENOENT) hint = "; its folder does not exist, make it first";
  if (error == ENOSPC || error == EDQUOT) hint = "; free some space or write elsewhere";
  if (error == EROFS || error == EACCES || error == EPERM) hint = "; write to another folder";
  if (error == EFBIG) hint = "; raise the file size limit (ulimit -f)";
  throw WriteError(message("cannot ", action, " ", path, ": ", std::strerror(error), hint));
}

void write_all(int fd, const std::string& path, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(fd, from, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw_write_error("write", path, errno);
    from += put;
    bytes -= static_cast<size_t>(put);
  }
}

void sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // a folder that may be written but not listed cannot be synced
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems do not sync folders and say EINVAL.
  if (result != 0 && error != EINVAL) throw_write_error("sync the folder", folder, error);
}

void remove_leftovers(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(fs::absolute(path, error), error);
  const std::string start = message(".", real.filename().string(), ".tmp-");
  fs::directory_iterator entries(real.parent_path(), error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (!name.starts_with(start)) continue;
    const long owner = std::strtol(name.c_str() + start.size(), nullptr, 10);
    const bool dead = owner > 0 && ::kill(static_cast<pid_t>(owner), 0) != 0 && errno == ESRCH;
    if (dead) ::unlink(entries->path().c_str());
  }
}

AtomicFile::AtomicFile(const std::string& path, bool make_parents) : path_(path) {
  std::error_code error;
  fs::path real = fs::absolute(path, error);
  if (!error) real = fs::weakly_canonical(real, error);
  if (error) fail("resolve", error.value());
  target_ = real.string();
  const fs::file_status status = fs::status(real, error);
  if (!real.has_filename() || (fs::exists(status) && !fs::is_regular_file(status))) {
    throw WriteError(message("cannot write ", path,
                             ": it is not a plain file, expected a file that may be replaced; give "
                             "another path"));
  }
  const fs::path folder = real.parent_path();
  if (make_parents && !fs::create_directories(folder, error) && error) {
    fail("make the folder of", error.value());
  }
  for (int n = 0; fd_ < 0; ++n) {
    // A killed process may have left a temporary, and its process id may have come round again.
    temporary_ =
        (folder / message(".", real.filename().string(), ".tmp-", ::getpid(), "-", n)).string();
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && (errno != EEXIST || n == 1000)) {
      const int open_error = errno;
      temporary_.clear();
      fail("write", open_error);
    }
  }
  // A file system without permissions refuses; the file is none the worse for it.
  if (fs::exists(status)) fs::permissions(temporary_, status.permissions(), error);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error) const {
  throw_write_error(action, path_, error);
}

void AtomicFile::write(const void* data, size_t bytes) { write_all(fd_, path_, data, bytes); }

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("sync", errno);
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail("close", errno);
  fault_point(FaultPoint::file_written);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename to", errno);
  temporary_.clear();
  fault_point(FaultPoint::file_renamed);
  sync_folder(fs::path(target_).parent_path().string());
}

}  // namespace pyllmc
