// Matrix products from packed panels: the engine under the linear layers and the classifier.
//
// C(rows, cols) (+)= A(rows, K) B(K, cols) is cut into tiles whose sums stay in registers. Operands
// are packed into 32-bit units along K: one fp32, or two neighbouring bf16 (VNNI's pairs; an odd K
// is filled with 0). A panel of B is [unit][tile's cols]. A is [block of 32 units][row][32], so
// that a row of a row-major matrix is copied, not transposed; a tile begins at any row and any
// unit, so a band is a short range of either. An fp32 C written in A's form is at once the A of a
// product over its columns, and its blocks are panels of B for a product over its rows: nothing is
// packed again.
//
// Every entry of C is one sum over K in order, so its bits depend on the instruction set, the
// precision and the ranges that the caller adds up, never on threads. (Layout after Goto & van de
// Geijn 2008, "Anatomy of high-performance matrix multiplication".)
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/tensor.h"

namespace pyllmc {

// One fp32 or a pair of bf16.
using Unit = uint32_t;

constexpr int64_t kBlockUnits = 32;

// Some rows of a packed A, from its unit 0 on; blocks are `block` units apart.
struct PackedA {
  const Unit* units;
  int64_t block, rows;
};

// A panel of B whose units are `ld` apart: a tile's columns, or fewer at the matrix's end.
struct PanelB {
  const Unit* units;
  int64_t ld, cols;
};

class PanelEngine {
 public:
  // The fastest that this processor runs. PYLLMC_ISA=avx512|avx2|plain chooses slower tiles of
  // matrix products; it does not affect PYLLMC_SIMD kernels, whose version the loader picks.
  // Throws UsageError for another word.
  static const PanelEngine& get(Precision precision);

  // The shape of a tile, and the code for a third, two thirds and all of its rows, rounded up. Sums
  // units [begin, end) of A, whose first row is `a`, with B, whose first unit meets unit `begin`;
  // its units are ldb apart.
  struct Tile {
    int64_t rows, cols;
    void (*multiply[3])(int64_t begin, int64_t end, const Unit* a, int64_t a_block, const Unit* b,
                        int64_t ldb, float* c, int64_t ldc, bool accumulate);
    static constexpr int64_t height(int64_t rows, int third) {
      return (rows * (third + 1) + 2) / 3;
    }
    // The lowest that holds n rows.
    int third_of(int64_t n) const {
      return n <= height(rows, 0) ? 0 : n <= height(rows, 1) ? 1 : 2;
    }
  };
  const Tile& wide() const { return wide_; }
  const Tile& narrow() const { return narrow_; }  // fewer columns, nearly as fast: for bands

  const char* name() const { return name_; }  // "avx512", "avx512-bf16", "avx2", ...

  // K in units.
  int64_t units(int64_t k) const { return precision_ == Precision::bf16 ? (k + 1) / 2 : k; }

  // Units from one block of a packed A to the next, and of all of it with what a last tile may read
  // beyond.
  int64_t a_block(int64_t rows) const;
  int64_t a_units(int64_t rows, int64_t k) const;
  // Units of a packed B of (K, cols), padded to whole tiles; of one panel.
  int64_t b_units(int64_t k, int64_t cols, const Tile& tile) const;
  int64_t b_panel_units(int64_t k, const Tile& tile) const { return units(k) * tile.cols; }

  // A, from its row `out` on, from rows of K neighbours (row-major), or from K rows of `rows`
  // neighbours (its transpose). `sums` (K) or null: the sums over the rows are added to it.
  void pack_a(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out, int64_t a_block,
              float* sums = nullptr) const;
  void pack_a_transposed(const float* source, int64_t ld, int64_t rows, int64_t k, Unit* out,
                         int64_t a_block) const;
  // B from K rows of `cols` neighbours (row-major), or from cols rows of K neighbours. `sums`
  // (cols) or null: the sums over K are added to it.
  void pack_b(const float* source, int64_t ld, int64_t k, int64_t cols, const Tile& tile, Unit* out,
              float* sums = nullptr) const;
  void pack_b_transposed(const float* source, int64_t ld, int64_t k, int64_t cols, const Tile& tile,
                         Unit* out) const;

  // C(rows, b.cols) (+)= A[:, begin..end) B: all rows of A against one panel of B, in steps of K
  // that suit the caches. finish(row, rows) is called when a tile's rows are done.
  template <class Finish>
  void multiply(const Tile& tile, const PackedA& a, int64_t begin, int64_t end, PanelB b, float* c,
                int64_t ldc, bool accumulate, const Finish& finish) const {
    constexpr int64_t kPanel = 8192;  // units of B that stay in the first cache
    const int64_t steps = (end - begin) * tile.cols / (kPanel + 1) + 1;
    const int64_t depth = (end - begin + steps - 1) / steps;
    for (; begin + depth < end; begin += depth, b.units += depth * b.ld, accumulate = true) {
      step(tile, a, begin, begin + depth, b, c, ldc, accumulate, [](int64_t, int64_t) {});
    }
    step(tile, a, begin, end, b, c, ldc, accumulate, finish);
  }
  void multiply(const Tile& tile, const PackedA& a, int64_t begin, int64_t end, const PanelB& b,
                float* c, int64_t ldc, bool accumulate) const {
    multiply(tile, a, begin, end, b, c, ldc, accumulate, [](int64_t, int64_t) {});
  }

 private:
  PanelEngine(Precision precision, const char* name, Tile wide, Tile narrow)
      : precision_(precision), name_(name), wide_(wide), narrow_(narrow) {}
  static PanelEngine choose(Precision precision);

  template <class Finish>
  void step(const Tile& tile, const PackedA& a, int64_t begin, int64_t end, const PanelB& b,
            float* c, int64_t ldc, bool accumulate, const Finish& finish) const {
    for (int64_t row = 0; row < a.rows; row += tile.rows) {
      const int64_t n = std::min(tile.rows, a.rows - row);
      const Unit* from = a.units + row * kBlockUnits;
      float* to = c + row * ldc;
      const int third = tile.third_of(n);
      if (n == Tile::height(tile.rows, third) && b.cols == tile.cols) {
        tile.multiply[third](begin, end, from, a.block, b.units, b.ld, to, ldc, accumulate);
      } else {
        multiply_part(tile, {from, a.block, n}, begin, end, b, to, ldc, accumulate);
      }
      finish(row, n);
    }
  }
  void multiply_part(const Tile& tile, const PackedA& a, int64_t begin, int64_t end,
                     const PanelB& b, float* c, int64_t ldc, bool accumulate) const;

  Precision precision_;
  const char* name_;
  Tile wide_, narrow_;
};

}  // namespace pyllmc
