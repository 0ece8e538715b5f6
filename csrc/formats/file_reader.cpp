#include "formats/file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace pyllmc {

static_assert(std::endian::native == std::endian::little, "the files are read without swapping");
static_assert(sizeof(off_t) == 8, "shards over 2 GiB need 64-bit file offsets");

FileReader::FileReader(const std::string& path)
    : FileReader(std::make_shared<const std::string>(path)) {}

FileReader::FileReader(std::shared_ptr<const std::string> path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe by mistake must not wait for its writer.
  fd_ = ::open(path_->c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    throw FormatError(message("cannot open ", *path_, ": ", std::strerror(errno)));
  }
  struct stat info{};
  const bool known = ::fstat(fd_, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    const int error = errno;
    ::close(fd_);
    if (!known) throw FormatError(message("cannot inspect ", *path_, ": ", std::strerror(error)));
    throw FormatError(message(*path_, " is ",
                              S_ISDIR(info.st_mode) ? "a folder" : "not a plain file",
                              ", expected a file; give the path of the file itself"));
  }
  identity_ = {.device = static_cast<uint64_t>(info.st_dev),
               .inode = static_cast<uint64_t>(info.st_ino),
               .size = info.st_size,
               .modified_ns = info.st_mtim.tv_sec * int64_t{1000000000} + info.st_mtim.tv_nsec};
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)),
      identity_(other.identity_),
      fd_(std::exchange(other.fd_, -1)) {}

FileReader::~FileReader() {
  if (fd_ >= 0) ::close(fd_);
}

void FileReader::read(int64_t offset, void* out, size_t bytes) const {
  const int64_t wanted = static_cast<int64_t>(bytes);
  if (offset < 0 || wanted < 0 || offset > size() || wanted > size() - offset) {
    throw FormatError(message(*path_, " has ", size(), " bytes, expected ", bytes,
                              " more from byte ", offset, " on; the file is not complete"));
  }
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, to, bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw FormatError(
          message("cannot read ", *path_, " at byte ", offset, ": ", std::strerror(errno)));
    }
    if (got == 0) {
      throw FormatError(message(*path_, " ends at byte ", offset, ", it had ", size(),
                                " bytes when it was opened; it was cut while in use"));
    }
    to += got;
    offset += got;
    bytes -= static_cast<size_t>(got);
  }
}

void read_header(const FileReader& file, const char* kind, int32_t magic,
                 int32_t (&header)[kHeaderWords]) {
  if (file.size() < kHeaderBytes) {
    throw FormatError(message(file.path(), " has ", file.size(), " bytes, a ", kind,
                              " begins with a header of ", kHeaderBytes,
                              "; the file is not complete or of another kind"));
  }
  file.read(0, header, kHeaderBytes);
  if (header[0] == magic) return;
  if (__builtin_bswap32(static_cast<uint32_t>(header[0])) == static_cast<uint32_t>(magic)) {
    throw FormatError(message(file.path(), " has the magic number ", magic,
                              " byte-swapped (read as ", header[0], "), expected a little-endian ",
                              kind, "; write it again in little-endian byte order"));
  }
  throw FormatError(message(file.path(), " has the magic number ", header[0], ", expected ", magic,
                            "; it is not a ", kind));
}

}  // namespace pyllmc
