// Matrix products from packed panels: the engine under the linear layers and the classifier.
//
// C(rows, cols) (+)= A(rows, K) B(K, cols) is cut into tiles of tile_rows x tile_cols whose sums
// stay in registers. Operands are packed into 32-bit units along K: one fp32, or two neighbouring
// bf16 (VNNI's pairs; an odd K is filled with 0). A panel of B is [unit][tile_cols]; a panel of A
// is blocks of 64 units, each [tile_rows][64], so that a row of a row-major matrix is copied, not
// transposed. What is packed can be used over any range of units: a band is a short range.
//
// Every entry of C is one sum over K in order, so its bits depend on the instruction set, the
// precision and the ranges that the caller adds up, never on threads. (Layout after Goto & van de
// Geijn 2008, "Anatomy of high-performance matrix multiplication".)
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace pyllmc {

// out (cols, rows), leading dimension out_ld, = transpose of source (rows, cols).
void transpose(const float* source, int64_t ld, int64_t rows, int64_t cols, float* out,
               int64_t out_ld);

// One fp32 or a pair of bf16.
using Unit = uint32_t;

class PanelEngine {
 public:
  // The fastest that this processor runs. PYLLMC_ISA=avx512|avx2|plain asks for a lesser one.
  static const PanelEngine& get(Precision precision);

  const char* name() const { return name_; }  // "avx512", "avx512-bf16", "avx2", ...
  int64_t tile_rows() const { return tile_rows_; }
  int64_t tile_cols() const { return tile_cols_; }

  // K in units.
  int64_t units(int64_t k) const { return precision_ == Precision::bf16 ? (k + 1) / 2 : k; }

  // Units of a packed A of (rows, K) or B of (K, cols), padded to whole tiles.
  int64_t a_units(int64_t rows, int64_t k) const;
  int64_t b_units(int64_t k, int64_t cols) const;
  int64_t a_panel_units(int64_t k) const;
  int64_t b_panel_units(int64_t k) const { return units(k) * tile_cols_; }

  // A from rows of K neighbours (row-major), or from K rows of `rows` neighbours (its transpose).
  void pack_a(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out) const;
  void pack_a_transposed(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out) const;
  // B from K rows of `cols` neighbours (row-major), or from cols rows of K neighbours.
  void pack_b(const float* source, int64_t ld, int64_t k, int64_t cols, Unit* out) const;
  void pack_b_transposed(const float* source, int64_t ld, int64_t k, int64_t cols, Unit* out) const;

  // C(rows, cols) (+)= A[:, begin..end) B, cols <= tile_cols: all row panels of A against one panel
  // of B whose first unit meets unit `begin` of A. `a_panel` is a_panel_units(K of A).
  void multiply(const Unit* a, int64_t a_panel, int64_t rows, int64_t begin, int64_t end,
                const Unit* b, int64_t cols, float* c, int64_t ldc, bool accumulate) const;

 private:
  using Tile = void (*)(int64_t begin, int64_t end, const Unit* a, const Unit* b, float* c,
                        int64_t ldc, bool accumulate);
  PanelEngine(Precision precision, const char* name, int64_t rows, int64_t cols, Tile tile)
      : precision_(precision), name_(name), tile_rows_(rows), tile_cols_(cols), tile_(tile) {}
  static PanelEngine choose(Precision precision);

  void pack_a_rows(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* panel,
                   int64_t first_unit) const;

  Precision precision_;
  const char* name_;
  int64_t tile_rows_, tile_cols_;
  Tile tile_;
};

}  // namespace pyllmc
