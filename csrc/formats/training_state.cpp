#include "formats/training_state.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "formats/atomic_file.h"
#include "formats/crc32.h"
#include "formats/fault.h"

namespace pyllmc {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 1;
constexpr char kTensors[] = "tensors.bin";
constexpr char kManifest[] = "manifest.json";
constexpr char kFinished[] = "finished.json";
constexpr char kChecksumKey[] = ", \"crc32\": \"";
constexpr int64_t kLargestManifest = 1 << 26;

std::string state_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return name;
}

// Step of a folder's name, -1 when it is no state's.
int64_t step_of(const std::string& name) {
  int64_t step = -1;
  if (!name.starts_with("step_")) return -1;
  const char *begin = name.data() + 5, *end = name.data() + name.size();
  if (std::from_chars(begin, end, step).ptr != end || step < 0) return -1;
  return state_name(step) == name ? step : -1;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  if (fs::status(folder, error).type() == fs::file_type::not_found) return names;
  const fs::directory_iterator entries(folder, error);
  if (error) {
    throw FormatError(message("cannot list the folder of states ", folder, ": ", error.message()));
  }
  for (const auto& entry : entries) names.push_back(entry.path().filename().string());
  return names;
}

// Steps of the states under `root`, the newest first.
std::vector<int64_t> steps_in(const std::string& root) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(root)) {
    if (const int64_t step = step_of(name); step >= 0) steps.push_back(step);
  }
  std::ranges::sort(steps, std::greater<>());
  return steps;
}

int create_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) throw_write_error("write", path, errno);
  return fd;
}

void sync_and_close(int& fd, const std::string& path) {
  if (::fsync(fd) != 0) throw_write_error("sync", path, errno);
  if (::close(std::exchange(fd, -1)) != 0) throw_write_error("close", path, errno);
}

// Puts `from` where `to` stands, and what stood there, if anything, where `from` was.
void move_in(const std::string& from, const std::string& to) {
#ifdef RENAME_EXCHANGE
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
#endif
  std::error_code error;
  if (fs::exists(to, error)) {  // a file system that cannot exchange: one after the other
    const std::string old = from + ".old";
    if (::rename(to.c_str(), old.c_str()) != 0) throw_write_error("rename", to, errno);
    if (::rename(from.c_str(), to.c_str()) != 0) throw_write_error("rename to", to, errno);
    ::rename(old.c_str(), from.c_str());
    return;
  }
  if (::rename(from.c_str(), to.c_str()) != 0) throw_write_error("rename to", to, errno);
}

// Space is all that a failed deletion costs, so it stops no run.
void remove_quietly(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

JsonValue read_manifest(const std::string& path) {
  const FileReader file(path);
  if (file.size() > kLargestManifest) {
    throw FormatError(message(path, " has ", file.size(), " bytes, a manifest has at most ",
                              kLargestManifest, "; the file is damaged"));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, text.data(), text.size());
  const size_t at = text.rfind(kChecksumKey);
  if (at == text.npos) {
    throw FormatError(message(path, " does not end with its checksum; it is not complete"));
  }
  const std::string crc = crc32_text(crc32(text.data(), at));
  if (text.substr(at) != kChecksumKey + crc + "\"}\n") {
    throw FormatError(
        message(path, " has another checksum than its content (", crc, "); the file is damaged"));
  }
  return JsonValue::parse(text);
}

}  // namespace

std::string state_root(const std::string& checkpoint) {
  const bool suffix = checkpoint.size() > 4 && checkpoint.ends_with(".bin");
  return checkpoint.substr(0, checkpoint.size() - (suffix ? 4 : 0)) + ".state";
}

StateWriter::StateWriter(const std::string& root, int64_t step)
    : root_(root),
      name_(state_name(step)),
      temporary_(message(root, "/.tmp-", name_, "-", ::getpid())),
      step_(step) {
  std::error_code error;
  remove_quietly(temporary_);
  fs::create_directories(temporary_, error);
  if (error) throw_write_error("make the folder", temporary_, error.value());
  fault_point(FaultPoint::state_folder_made);
  try {
    fd_ = create_file(temporary_ + "/" + kTensors);
  } catch (const WriteError&) {
    remove_quietly(temporary_);
    throw;
  }
}

StateWriter::~StateWriter() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) remove_quietly(temporary_);
}

void StateWriter::begin_tensor(const std::string& name) {
  if (!tensors_.empty()) fault_point(FaultPoint::state_tensor_written);
  tensors_.push_back({name, bytes_, 0, 0});
}

void StateWriter::write(std::span<const float> values) {
  write_all(fd_, temporary_ + "/" + kTensors, values.data(), values.size_bytes());
  Tensor& tensor = tensors_.back();
  tensor.crc = crc32(values.data(), values.size_bytes(), tensor.crc);
  tensor.bytes += static_cast<int64_t>(values.size_bytes());
  bytes_ += static_cast<int64_t>(values.size_bytes());
}

void StateWriter::write_manifest(JsonValue::Object entries) {
  JsonValue::Object manifest = {{"format", kFormat}, {"step", step_}};
  std::ranges::move(entries, std::back_inserter(manifest));
  JsonValue::List tensors;
  for (const Tensor& tensor : tensors_) {
    tensors.push_back(JsonValue::Object{{"name", tensor.name},
                                        {"offset", tensor.offset},
                                        {"bytes", tensor.bytes},
                                        {"crc32", crc32_text(tensor.crc)}});
  }
  manifest.emplace_back("tensors", std::move(tensors));
  std::string text = JsonValue(std::move(manifest)).text();
  text.pop_back();
  text += kChecksumKey + crc32_text(crc32(text.data(), text.size())) + "\"}\n";

  const std::string path = temporary_ + "/" + kManifest;
  int fd = create_file(path);
  try {
    const size_t half = text.size() / 2;
    write_all(fd, path, text.data(), half);
    fault_point(FaultPoint::state_manifest_half);
    write_all(fd, path, text.data() + half, text.size() - half);
    sync_and_close(fd, path);
  } catch (const WriteError&) {
    if (fd >= 0) ::close(fd);
    throw;
  }
}

std::string StateWriter::commit(JsonValue::Object entries) {
  fault_point(FaultPoint::state_tensors_written);
  sync_and_close(fd_, temporary_ + "/" + kTensors);
  fault_point(FaultPoint::state_tensors_synced);
  write_manifest(std::move(entries));
  fault_point(FaultPoint::state_manifest_synced);
  sync_folder(temporary_);
  fault_point(FaultPoint::state_folder_synced);
  const std::string folder = root_ + "/" + name_;
  move_in(temporary_, folder);
  fault_point(FaultPoint::state_renamed);
  sync_folder(root_);
  sync_folder(fs::absolute(root_).parent_path().string());  // the root itself may be new
  fault_point(FaultPoint::state_kept);
  remove_quietly(std::exchange(temporary_, ""));
  delete_old_states(root_, step_);
  return folder;
}

StateReader::StateReader(const std::string& folder)
    : folder_(folder),
      manifest_(read_manifest(folder + "/" + kManifest)),
      tensors_(folder + "/" + kTensors) {
  try {
    if (const int64_t format = manifest_.at("format").integer(); format != kFormat) {
      throw FormatError(message("format ", format, ", expected ", kFormat,
                                "; it needs another version of pyllmc"));
    }
    step_ = manifest_.at("step").integer();
    if (state_name(step_) != fs::path(folder).filename()) {
      throw FormatError(message("step ", step_, ", its folder is called otherwise"));
    }
    verify();
  } catch (const FormatError& error) {
    throw FormatError(message(folder, " is no state that can be used: ", error.what()));
  }
}

void StateReader::verify() const {
  int64_t end = 0;
  std::vector<char> piece(1 << 20);
  for (const JsonValue& tensor : manifest_.at("tensors").list()) {
    const int64_t bytes = tensor.at("bytes").integer();
    if (tensor.at("offset").integer() != end || bytes < 0 || bytes % 4 != 0 ||
        bytes > tensors_.size() - end) {
      throw FormatError(message("the manifest's place of tensor ", tensor.at("name").text(),
                                " does not fit ", kTensors, " of ", tensors_.size(), " bytes"));
    }
    uint32_t crc = 0;
    for (int64_t done = 0; done < bytes;) {
      const auto n = std::min(bytes - done, static_cast<int64_t>(piece.size()));
      tensors_.read(end + done, piece.data(), static_cast<size_t>(n));
      crc = crc32(piece.data(), static_cast<size_t>(n), crc);
      done += n;
    }
    if (crc32_text(crc) != tensor.at("crc32").string()) {
      throw FormatError(message("tensor ", tensor.at("name").text(), " has the checksum ",
                                crc32_text(crc), ", the manifest says ",
                                tensor.at("crc32").string()));
    }
    end += bytes;
  }
  if (end != tensors_.size()) {
    throw FormatError(message(kTensors, " has ", tensors_.size(), " bytes, the manifest's tensors ",
                              "have ", end));
  }
}

const JsonValue& StateReader::tensor(std::string_view name) const {
  for (const JsonValue& tensor : manifest_.at("tensors").list()) {
    if (tensor.at("name").string() == name) return tensor;
  }
  throw FormatError(message(folder_, " has no tensor ", name));
}

int64_t StateReader::count(std::string_view name) const {
  return tensor(name).at("bytes").integer() / static_cast<int64_t>(sizeof(float));
}

void StateReader::read(std::string_view name, float* out, int64_t count, int64_t first) const {
  if (first < 0 || count < 0 || count > this->count(name) - first) {
    throw FormatError(message(folder_, " has ", this->count(name), " numbers of tensor ", name,
                              ", ", first + count, " were expected"));
  }
  constexpr int64_t kSize = sizeof(float);
  tensors_.read(tensor(name).at("offset").integer() + first * kSize, out,
                static_cast<size_t>(count * kSize));
}

NewestState newest_state(const std::string& root) {
  NewestState found;
  for (const int64_t step : steps_in(root)) {
    try {
      found.state.emplace(root + "/" + state_name(step));
      return found;
    } catch (const FormatError& error) {
      found.unreadable.emplace_back(error.what());
    }
  }
  if (found.unreadable.empty()) return found;
  std::string reasons;
  for (const std::string& reason : found.unreadable) {
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  throw FormatError(message("no state under ", root,
                            " can be read, so this run cannot be resumed: ", reasons,
                            "; start anew instead of resuming"));
}

void delete_old_states(const std::string& root, int64_t step) {
  int64_t older = 0;
  for (const int64_t other : steps_in(root)) {
    if (other >= step || ++older == 1) continue;
    const std::string trash = root + "/.trash-" + state_name(other);
    remove_quietly(trash);
    if (::rename((root + "/" + state_name(other)).c_str(), trash.c_str()) != 0) continue;
    fault_point(FaultPoint::state_trashed);
    remove_quietly(trash + "/" + kManifest);
    fault_point(FaultPoint::state_trash_half);
    remove_quietly(trash);
    fault_point(FaultPoint::state_trash_deleted);
  }
  for (const std::string& name : names_in(root)) {
    if (name.starts_with(".trash-") || name.starts_with(".tmp-")) remove_quietly(root + "/" + name);
  }
}

void set_damaged_aside(const std::string& root, int64_t step) {
  for (const int64_t other : steps_in(root)) {
    if (other <= step) return;
    const std::string target = root + "/damaged-" + state_name(other);
    remove_quietly(target);
    if (::rename((root + "/" + state_name(other)).c_str(), target.c_str()) != 0) {
      throw_write_error("rename to", target, errno);
    }
  }
}

void make_state_root(const std::string& root) {
  std::error_code error;
  fs::create_directories(root, error);
  if (error) throw_write_error("make the folder", root, error.value());
  if (::access(root.c_str(), W_OK | X_OK) != 0) throw_write_error("write into", root, errno);
}

std::string set_states_aside(const std::string& root) {
  const auto worth_keeping = [](const std::string& name) {
    return name.starts_with("step_") || name.starts_with("damaged-");
  };
  if (std::ranges::none_of(names_in(root), worth_keeping)) {
    remove_quietly(root);  // what a run left that was killed before its first state
    return "";
  }
  const std::string target = root + ".previous";
  remove_quietly(target);
  if (::rename(root.c_str(), target.c_str()) != 0) throw_write_error("rename to", target, errno);
  return target;
}

void mark_finished(const std::string& root, int64_t step) {
  const std::string text = JsonValue(JsonValue::Object{{"step", step}}).text() + "\n";
  remove_leftovers(root + "/" + kFinished);
  AtomicFile file(root + "/" + kFinished);
  file.write(text.data(), text.size());
  file.commit();
}

bool is_finished(const std::string& root, int64_t step) {
  const std::string path = root + "/" + kFinished;
  if (std::error_code error; !fs::exists(path, error)) return false;
  try {
    const FileReader file(path);
    std::string text(static_cast<size_t>(std::min<int64_t>(file.size(), 4096)), '\0');
    file.read(0, text.data(), text.size());
    return JsonValue::parse(text).at("step").integer() == step;
  } catch (const FormatError&) {
    return false;  // then the end of the run is gone through once more
  }
}

}  // namespace pyllmc
