// Training states on disk: all that a run needs to go on as if it had never been stopped.
//
//   <root>/step_00000500/manifest.json   what is in it, written last
//   <root>/step_00000500/tensors.bin     little-endian fp32: the weights, then each optimizer slot,
//                                        every one as all parameters in logical order
//
// The manifest is one line, a JSON object: "format" 1, "step", the writer's own entries, "tensors"
// [{name, offset, bytes, crc32}], and last "crc32" of all bytes before `, "crc32"`. (CRC-32 is
// zlib's, as eight hexadecimal digits.)
//
// A state is written into .tmp-step_00000500-<pid> and gets its name when every byte and name is
// synced to disk, so a folder with such a name is complete or was damaged later. The older states
// but one are then renamed to .trash-... and deleted, last.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "formats/file_reader.h"

namespace pyllmc {

// Folder of the states beside a checkpoint: "a/ckpt.bin" has "a/ckpt.state".
std::string state_root(const std::string& checkpoint);

class StateWriter {
 public:
  // Begins the state of a step, making folders that are missing. Throws WriteError.
  StateWriter(const std::string& root, int64_t step);
  StateWriter(const StateWriter&) = delete;
  StateWriter& operator=(const StateWriter&) = delete;
  // Without a commit() the temporary folder is removed.
  ~StateWriter();

  // What is written from here on belongs to the tensor `name`.
  void begin_tensor(const std::string& name);
  void write(std::span<const float> values);

  // Completes the state with the writer's own entries of the manifest, makes it durable, replaces
  // one of the same step, and deletes all older ones but the one before it. Returns its folder.
  std::string commit(JsonValue::Object entries);

 private:
  struct Tensor {
    std::string name;
    int64_t offset, bytes;
    uint32_t crc;
  };

  void write_manifest(JsonValue::Object entries);

  std::string root_, name_, temporary_;
  int64_t step_;
  int fd_ = -1;  // of tensors.bin
  int64_t bytes_ = 0;
  std::vector<Tensor> tensors_;
};

// A state whose sizes and checksums have all been verified.
class StateReader {
 public:
  // Throws FormatError, naming file and reason, when anything in the folder is not as it was
  // written.
  explicit StateReader(const std::string& folder);

  const std::string& folder() const { return folder_; }
  int64_t step() const { return step_; }
  const JsonValue& manifest() const { return manifest_; }
  // Floats of a tensor. Throws FormatError for one that is not there.
  int64_t count(std::string_view tensor) const;
  void read(std::string_view tensor, float* out, int64_t count, int64_t first) const;

 private:
  const JsonValue& tensor(std::string_view name) const;
  void verify() const;

  std::string folder_;
  JsonValue manifest_;
  int64_t step_ = 0;
  FileReader tensors_;
};

struct NewestState {
  std::optional<StateReader> state;     // nothing when there is none at all
  std::vector<std::string> unreadable;  // why each newer one was passed over
};

// The newest state under `root` that can be read. Throws FormatError, with every reason, when there
// are some and none can be read.
NewestState newest_state(const std::string& root);

// Deletes the states before the one that precedes `step`, and what a killed run left half done.
void delete_old_states(const std::string& root, int64_t step);

// Renames the states after `step`, which newest_state() could not read, to damaged-<name>, so that
// none of them counts as one that is kept.
void set_damaged_aside(const std::string& root, int64_t step);

// Makes the folder, unless it is there, and throws WriteError when nothing can be written into it.
void make_state_root(const std::string& root);

// Renames `root`, if it holds states, to <root>.previous (deleting an earlier one of that name):
// a run that starts anew must not be continued from another's states. Returns the new name, "" when
// there was nothing.
std::string set_states_aside(const std::string& root);

// Marks the run whose last state is that of `step` as finished, or asks for it.
void mark_finished(const std::string& root, int64_t step);
bool is_finished(const std::string& root, int64_t step);

}  // namespace pyllmc
