#include "sparsity/pattern_tables.h"

#include <algorithm>
#include <vector>

namespace pyllmc {
namespace {

template <class T>
int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

}  // namespace

DeviceBand::DeviceBand(Device device, const BandLayout& layout) {
  std::vector<BandTableTile> tiles;
  std::vector<int32_t> channel_tiles, channel_units;
  const auto number = [](int64_t value) { return static_cast<int32_t>(value); };
  for (const BandTile& tile : layout.tiles()) {
    tiles.push_back({number(tile.hidden), number(tile.units), number(tile.begin), number(tile.end),
                     tile.offset});
    table.widest = std::max(table.widest, number(tile.window()));
  }
  for (int64_t channel = 0; channel < layout.residual(); ++channel) {
    const auto holds = [&](const BandTile& tile) {
      return tile.begin <= channel && channel < tile.end;
    };
    // Windows move monotonically: the tiles that hold a channel are neighbours.
    const auto& all = layout.tiles();
    const auto first = std::ranges::find_if(all, holds);
    const auto end = std::find_if_not(first, all.end(), holds);
    channel_tiles.push_back(number(first - all.begin()));
    channel_tiles.push_back(number(end - all.begin()));
    const Pattern::Span units = layout.hidden_of(channel, channel + 1);
    channel_units.push_back(number(units.begin));
    channel_units.push_back(number(units.end));
  }
  Arena counting;
  const auto reserve = [&](Arena& arena) {
    const auto n = [](const auto& values) { return static_cast<int64_t>(values.size()); };
    table.tile = arena.reserve<BandTableTile>({n(tiles)}).data();
    table.channel_tiles = arena.reserve<int32_t>({n(channel_tiles)}).data();
    table.channel_units = arena.reserve<int32_t>({n(channel_units)}).data();
  };
  reserve(counting);
  memory = allocate(device, counting.bytes(), "a band's layout");
  Arena arena(memory, counting.bytes());
  reserve(arena);
  const auto fill = [&](const auto* at, const auto& values) {
    copy_now(device, const_cast<void*>(static_cast<const void*>(at)), values.data(),
             bytes_of(values));
  };
  fill(table.tile, tiles);
  fill(table.channel_tiles, channel_tiles);
  fill(table.channel_units, channel_units);
  table.hidden = number(layout.hidden());
  table.residual = number(layout.residual());
  table.tiles = number(static_cast<int64_t>(tiles.size()));
  table.hidden_is_rows = layout.hidden_is_rows();
}

DeviceMask::DeviceMask(Device device, const Pattern& pattern) {
  const int64_t words = (pattern.total() + 31) / 32;
  std::vector<uint32_t> set(static_cast<size_t>(words));
  for (int64_t row = 0; row < pattern.rows(); ++row) {
    pattern.each_span(row, [&](Pattern::Span span) {
      for (int64_t i = row * pattern.cols() + span.begin; i < row * pattern.cols() + span.end;
           ++i) {
        set[static_cast<size_t>(i / 32)] |= uint32_t{1} << (i % 32);
      }
    });
  }
  memory = allocate(device, bytes_of(set), "a pattern's bits");
  copy_now(device, memory.get(), set.data(), bytes_of(set));
  bits = KeptBits(reinterpret_cast<const uint32_t*>(memory.get()), {words});
}

}  // namespace pyllmc
