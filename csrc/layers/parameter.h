// The parameter table: one entry a matrix a layer. Initialization, the optimizer, checkpoints,
// views to Python and inspection all walk it; a file's stacked order is only a way of writing it
// down.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/context.h"
#include "sparsity/band_layout.h"
#include "sparsity/pattern.h"
#include "sparsity/pattern_tables.h"

namespace pyllmc {

// The distribution of initial values.
struct Initial {
  enum class Kind { constant, normal, uniform };
  Kind kind = Kind::constant;
  double scale = 0;  // the constant, the standard deviation, or the bound of U(-scale, scale)
};

struct Parameter {
  std::string name;  // unique; the key of its random stream
  int64_t rows = 1, cols = 1;
  bool is_matrix = false;  // what weight decay applies to
  Initial initial{};
  int64_t initial_rows = -1;  // rows beyond this one start as 0 (padded vocabulary); -1 = all
  Pattern pattern = Pattern::dense(1, 1);

  std::shared_ptr<const BandLayout> band{};  // set: only the band is stored, in this layout

  int64_t offset = 0;  // floats from the start of every buffer of the table
  Tensor value{};      // (rows, cols) or (cols); (floats of the layout) where a band is stored
  Tensor gradient{};   // same shape; null when the table was made for inference
  TensorOf<uint16_t> bf16{};  // same shape or null: a copy of `value`, read instead (copy_to_bf16)
  DeviceBand device_band{};   // `band` in a GPU's memory
  DeviceMask device_mask{};   // `pattern` in a GPU's memory, of a weight stored whole

  // Floats that a buffer of the table holds for this entry.
  int64_t count() const { return band ? band->floats() : numel(); }
  // Entries of the logical (rows, cols), stored or not.
  int64_t numel() const { return rows * cols; }

  // Between what a buffer of the table stores for this entry and the logical row-major (rows,
  // cols): files, views and comparisons speak of the logical order only. Memory of the host.
  void unpack(const float* stored, float* logical) const;
  void pack(const float* logical, float* stored) const;
  // Sets to 0 what `stored` holds outside the pattern.
  void project(float* stored) const;
};

class ParameterTable {
 public:
  // Entries keep their addresses. `pattern` is that of the whole shape unless given.
  Parameter& add(Parameter parameter);

  std::deque<Parameter>& entries() { return entries_; }
  const std::deque<Parameter>& entries() const { return entries_; }
  // Throws UsageError for an unknown name.
  Parameter& find(std::string_view name);

  int64_t floats() const { return floats_; }  // of one buffer that holds all, aligned
  int64_t numbers() const;                    // parameters of the model, by their logical shapes
  bool has_gradients() const { return static_cast<bool>(gradients_); }
  // The buffers that hold all, in the device's memory; null when they were not asked for.
  float* values() const { return reinterpret_cast<float*>(values_.get()); }
  float* gradients() const { return reinterpret_cast<float*>(gradients_.get()); }
  uint16_t* bf16() const { return reinterpret_cast<uint16_t*>(bf16_.get()); }
  // Keeps the memory of `value` alive, whatever becomes of the table.
  const Memory& values_memory() const { return values_; }
  const Memory& bf16_memory() const { return bf16_; }

  // Stores only the band of every weight whose pattern is one and pays (BandLayout::pays): changes
  // counts and offsets. Before allocate(), or after it: then values move to new buffers and
  // gradients become 0. An optimizer that has state must be told (AdamW::move_from).
  void store_bands();

  // Allocates values, and gradients if asked for, in the device's memory.
  void allocate(bool gradients, Device device = Device::cpu);
  Device device() const { return device_; }
  // What allocate() takes, and copy_to_bf16() if those copies are to be made.
  int64_t buffer_bytes(bool gradients, bool bf16) const;

  // unpack() and pack() between the host and any buffer of the table: `stored` is where the entry
  // begins there, in the device's memory.
  void read(const Parameter& p, const float* stored, float* logical) const;
  void write(const Parameter& p, const float* logical, float* stored);

  // Makes bf16 copies: on a GPU of everything, as its products read them; on the CPU of every
  // matrix stored whole, for decoding (half the bytes a token reads).
  void copy_to_bf16(const Context& context);
  // To be called before values are read: waits for what others write through views, on a GPU's null
  // stream, and makes the copies again where they exist and the values may have changed.
  void refresh(const Context& context);
  // Values may change behind the table's back from now on: a view of them was given away.
  void share() { shared_ = true; }

  // Draws every entry's initial values: equal names and seeds give equal values in any model.
  void initialize(uint64_t seed);
  // Sets what lies outside each pattern to 0.
  void project();
  void zero_gradients(const Context& context);

 private:
  void place();

  std::deque<Parameter> entries_;
  int64_t floats_ = 0;
  Device device_ = Device::cpu;
  bool stale_ = false, shared_ = false;  // the bf16 copies
  Memory values_, gradients_, bf16_;
};

}  // namespace pyllmc
