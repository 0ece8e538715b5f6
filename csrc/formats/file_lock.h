// One program at a time: a lock that the system takes back however its holder ends.
#pragma once

#include <string>
#include <utility>

namespace pyllmc {

class FileLock {
 public:
  FileLock() = default;  // holds nothing
  // Locks the file at `path` against other processes; it is made, with its folders, and stays,
  // empty, when the lock is gone. Throws UsageError, naming `guarded` and who has it, when another
  // process does. Where no lock can be had (a read-only folder, a file system without locks) it
  // holds nothing: whoever writes there finds out for himself.
  FileLock(const std::string& path, const std::string& guarded);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileLock();

 private:
  int fd_ = -1;
};

}  // namespace pyllmc
