// A file that appears complete or not at all: bytes go to a temporary sibling, which is synced to
// disk and renamed over the target by commit(). Until then whatever stood there stays untouched.
#pragma once

#include <cstddef>
#include <string>

namespace pyllmc {

// WriteError "cannot <action> <path>: <the system's reason>; <what to do about it>".
[[noreturn]] void throw_write_error(const char* action, const std::string& path, int error);

// Writes all of `bytes` to a descriptor of the file `path`. Throws WriteError.
void write_all(int fd, const std::string& path, const void* data, size_t bytes);

// Makes the names in a folder durable. Throws WriteError.
void sync_folder(const std::string& folder);

// Deletes the temporaries of `path` that processes of this machine left behind when they were
// killed.
void remove_leftovers(const std::string& path);

class AtomicFile {
 public:
  // Opens the temporary `.<name>.tmp-<pid>-<n>` beside `path`. A symbolic link is followed, so the
  // file it points to is replaced and the link stays; an existing file keeps its permissions.
  // With make_parents missing folders are made.
  // Throws WriteError when the folder cannot be written or the target is not a regular file.
  explicit AtomicFile(const std::string& path, bool make_parents = false);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  // Without a commit() the temporary is removed.
  ~AtomicFile();

  // Appends `bytes` bytes. Throws WriteError, with the system's reason, when they do not all fit.
  void write(const void* data, size_t bytes);

  // Syncs the file, renames it to the target and syncs the folder. Call once, last.
  void commit();

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::string path_;       // as the caller named it, for messages
  std::string target_;     // the same with symbolic links resolved
  std::string temporary_;  // empty once renamed
  int fd_ = -1;
};

}  // namespace pyllmc
