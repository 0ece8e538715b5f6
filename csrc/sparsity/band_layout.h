// Where the entries of a banded weight are stored when only the band is: tiles of 32 hidden units,
// each with the window of residual channels that any of them sees.
//
// A tile is row-major [window][32] whichever side of the weight is the hidden one: FC1 and FC2,
// transposes of each other, share the layout and the products over it. Windows are clipped to the
// weight, begin and end on even channels (pairs for bf16), and keep entries outside the band, in
// the tile's corners, which are 0. A last tile of fewer than 32 units is padded with 0.
//
// With H = 4C a window has up to 9.75 channels more than the band of one unit, 7.75 for the tile's
// other units and the rest for evenness. At density d storage is up to d + 9.75 / C of the dense
// weight: d + 0.15 at C = 64, d + 0.05 to d + 0.08 at C = 128, within d + 0.06 from C = 160 on.
#pragma once

#include <cstdint>
#include <vector>

#include "sparsity/pattern.h"

namespace pyllmc {

struct BandTile {
  int64_t hidden, units;  // first hidden unit and their number, at most kBandTile
  int64_t begin, end;     // residual channels
  int64_t offset;         // of the first entry, in floats
  int64_t window() const { return end - begin; }
};

constexpr int64_t kBandTile = 32;

class BandLayout {
 public:
  // Whether storing and multiplying the band alone beats the masked dense weight: true for a band
  // whose tiles do at most this share of the dense work. Measured for C = 64 to 1024, FC1 and FC2
  // (runs/benchmarks): below it the band is as fast or faster, in bf16 within 6 %; above it neither
  // is, on the whole. The band is the smaller one.
  static constexpr double kPaysBelow = 0.96;
  static bool pays(const Pattern& pattern);

  // Of a pattern with is_band(); throws UsageError for others.
  explicit BandLayout(const Pattern& pattern);

  const std::vector<BandTile>& tiles() const { return tiles_; }
  int64_t floats() const { return floats_; }  // of storage
  bool hidden_is_rows() const { return hidden_is_rows_; }
  int64_t hidden() const { return hidden_; }      // H
  int64_t residual() const { return residual_; }  // C
  // Share of the dense product's work that the tiles do.
  double executed() const;

  // Hidden units that any residual channel of [begin, end) sees, and the most that `width`
  // neighbouring channels see.
  Pattern::Span hidden_of(int64_t begin, int64_t end) const {
    return by_channel_.inputs_of({begin, end});
  }
  int64_t widest(int64_t width) const;

  // Between row-major (rows, cols) and the tiles. pack() keeps what the pattern keeps only.
  void pack(const float* logical, float* stored) const;
  void unpack(const float* stored, float* logical) const;
  // Sets to 0 what the tiles hold outside the band.
  void project(float* stored) const;
  // The hidden units of `tile` that see residual channel `channel`, as a range inside the tile.
  Pattern::Span kept(const BandTile& tile, int64_t channel) const;

 private:
  Pattern by_channel_;  // (C, H): spans of hidden units
  bool hidden_is_rows_;
  int64_t hidden_, residual_;
  std::vector<BandTile> tiles_;
  int64_t floats_ = 0;
};

}  // namespace pyllmc
