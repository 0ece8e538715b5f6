// Patterns in a GPU's memory, as plain numbers for kernels.
#pragma once

#include "core/device.h"
#include "sparsity/band_layout.h"
#include "sparsity/pattern.h"

namespace pyllmc {

// Bit i % 32 of word i / 32 is 1 where entry i of the row-major weight is kept.
using KeptBits = TensorOf<const uint32_t>;

struct BandTableTile {
  int32_t hidden, units;  // as in BandTile
  int32_t begin, end;
  int64_t offset;
};

// A BandLayout; the pointers are the device's. Null pointers: there is no band.
struct BandTable {
  int32_t hidden = 0, residual = 0;  // H, C
  int32_t tiles = 0;
  int32_t widest = 0;                   // the widest window of a tile, in channels
  bool hidden_is_rows = true;           // FC1: the weight is (H, C); else (C, H)
  const BandTableTile* tile = nullptr;  // (tiles)
  const int32_t* channel_tiles =
      nullptr;  // (C, 2): tiles [first, end) whose window has the channel
  const int32_t* channel_units = nullptr;  // (C, 2): hidden units [begin, end) that the band keeps
};

// Both need the memory that they return kept alive.
struct DeviceBand {
  DeviceBand() = default;
  DeviceBand(Device device, const BandLayout& layout);
  BandTable table{};
  Memory memory;
};
struct DeviceMask {
  DeviceMask() = default;
  DeviceMask(Device device, const Pattern& pattern);
  KeptBits bits{};
  Memory memory;
};

}  // namespace pyllmc
