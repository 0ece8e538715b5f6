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

class AdamW {
 public:
  // A named piece of state, laid out as the table's buffers are.
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

  // Norm of all gradients, and from it the clip scale and the not-finite flag in `state`.
  void measure_gradients(const Context& context, StepState& state);
  // p -= lr (m_hat / (sqrt(v_hat) + eps) + decay p); nothing happens when state.not_finite is set.
  void update(const Context& context, StepState& state);

  const std::vector<Slot>& slots() const { return slots_; }  // "m", "v"

 private:
  // A fixed cut of the table: rows of one parameter. A vector and a stored band are one row.
  struct Piece {
    const Parameter* parameter;
    int64_t first_row, rows, width;
  };
  void cut();

  ParameterTable& table_;
  AdamWOptions options_;
  std::vector<Slot> slots_;
  std::vector<Piece> pieces_;    // in the order in which their squares are added up
  std::vector<double> squares_;  // of each piece
};

}  // namespace pyllmc
