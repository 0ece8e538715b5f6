// AdamW (Loshchilov & Hutter 2019) over the parameter table. What a pattern does not keep is set to
// 0 and its moments stay 0; the norm for clipping is that of the masked gradients.
#pragma once

#include <string>
#include <vector>

#include "layers/parameter.h"
#include "optim/step_state.h"

namespace pyllmc {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  // of matrices only
  double clip = 0;          // norm that the gradient is scaled down to; 0 = off
};

// A run of entries of one parameter, at most kAdamWPiece, starting at a multiple of that many.
struct AdamWPiece {
  int64_t offset;        // of the first entry, in floats from the start of every buffer
  const uint32_t* kept;  // bit j % 32 of word j / 32 is entry j of the piece; null: all are kept
  int32_t count;
  int32_t decays;  // whether weight decay applies
};
constexpr int64_t kAdamWPiece = 4096;

// What a device's kernels are told; every pointer is the device's.
struct AdamWArgs {
  TensorOf<const AdamWPiece> pieces;  // (pieces)
  float *values, *gradients, *m, *v;  // the table's buffers
  uint16_t* bf16;                     // copies of the values, written too; or null
  double* squares;                    // (pieces): scratch
  AdamWOptions options;
  StepState* state;
};

struct AdamWKernels {
  // gradient_norm over all pieces, in their order; gradient_scale; not_finite when the norm or
  // state.loss.sum is not.
  void (*measure)(const Context&, const AdamWArgs&);
  // values, m, v and bf16. With not_finite set nothing changes. Entries that are not kept become 0.
  void (*update)(const Context&, const AdamWArgs&);
};

class AdamW {
 public:
  // A named piece of state, laid out as the table's buffers are and in the same memory.
  struct Slot {
    std::string name;
    Memory memory;
    float* data() const { return reinterpret_cast<float*>(memory.get()); }
  };

  static int64_t state_bytes(const ParameterTable& table);

  AdamW(ParameterTable& table, const AdamWOptions& options);

  // Carries the state over after the table's store_bands(): `offsets` are where its entries lay
  // before, all in logical order.
  void move_from(const std::vector<int64_t>& offsets);

  // The bias corrections of update state.step. For the host's copy of a state.
  void correct_bias(StepState& state) const;
  // Norm of all gradients, and from it the clip scale in *state; sets not_finite when the norm or
  // the loss is not. The state is in the device's memory.
  void measure_gradients(const Context& context, StepState* state);
  // p -= lr (m_hat / (sqrt(v_hat) + eps) + decay p); nothing happens when not_finite is set.
  void update(const Context& context, StepState* state);

  const std::vector<Slot>& slots() const { return slots_; }  // "m", "v"

 private:
  // A fixed cut of the table: rows of one parameter. A vector and a stored band are one row.
  struct Piece {
    const Parameter* parameter;
    int64_t first_row, rows, width;
  };
  void cut();
  void cut_for_device();
  AdamWArgs device_args(StepState* state) const;

  ParameterTable& table_;
  AdamWOptions options_;
  std::vector<Slot> slots_;
  std::vector<Piece> pieces_;    // in the order in which their squares are added up
  std::vector<double> squares_;  // of each piece
  int64_t device_pieces_ = 0;
  Memory device_memory_;  // AdamWPiece of each, then squares
};

}  // namespace pyllmc
