// Read access to one regular file with 64-bit offsets and checked bounds. Every failure is a
// FormatError that names the file. Safe to share between threads (reads keep no position).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace pyllmc {

// What tells one state of a file from another without reading it.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t modified_ns = 0;

  bool operator==(const FileIdentity&) const = default;
};

class FileReader {
 public:
  // Throws FormatError when the file is missing, unreadable or not a regular file.
  explicit FileReader(const std::string& path);
  // The same without a copy of the path, for a file that is opened again and again.
  explicit FileReader(std::shared_ptr<const std::string> path);
  FileReader(FileReader&& other) noexcept;
  ~FileReader();

  const std::string& path() const { return *path_; }
  // Bytes in the file when it was opened.
  int64_t size() const { return identity_.size; }
  const FileIdentity& identity() const { return identity_; }

  // Reads exactly `bytes` bytes from `offset`. Throws FormatError when the file does not hold them,
  // also when it was cut after it was opened.
  void read(int64_t offset, void* out, size_t bytes) const;

 private:
  std::shared_ptr<const std::string> path_;
  FileIdentity identity_;
  int fd_ = -1;
};

constexpr int kHeaderWords = 256;
constexpr int64_t kHeaderBytes = kHeaderWords * 4;

// Reads the header that llm.c's files share, 256 little-endian int32, into `header` and checks
// header[0]. `kind` names the expected file in the message ("checkpoint", "token file").
void read_header(const FileReader& file, const char* kind, int32_t magic,
                 int32_t (&header)[kHeaderWords]);

}  // namespace pyllmc
