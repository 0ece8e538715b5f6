// gradient in bf16. A block owns 128 hidden units (four tiles), a stretch of their windows, and a
// part of the rows: every hidden value is read once, and the residual channels that neighbouring
// tiles share once a block. A warp owns one tile, or half of its window. The parts of the rows are
// added up in order by a second kernel.
#include <algorithm>
#include <type_traits>

#include "ops/linear/linear_band_cuda.cuh"
#include "ops/linear/linear_parts_cuda.h"

namespace pyllmc::cuda {
namespace {

constexpr int kTiles = 4;
constexpr int kUnits = kTiles * static_cast<int>(kBandTile);  // hidden units of a block
constexpr int kDepth = 32;                                    // rows of a chunk
constexpr int kStages = 3;
// Rows in shared memory are an odd number of 16-byte units long, so that eight of them never share
// a bank.
constexpr int kHiddenPitch = kUnits / kUnit + 1;
constexpr int kMostUnits = 2 * kWarp;   // of the channels
constexpr uint32_t kOnes = 0x3f803f80;  // two bf16

struct Args {
  const bf16 *residual, *hidden;
  BandTable band;
  float* parts;       // [part][floats of the band]
  float* bias_parts;  // [part][H] or null
  int64_t floats;
  int M, rows;  // rows of a part, a multiple of kDepth
  int pitch;    // of the residual channels
};

// Where the channels that a tile's part of a stretch covers begin: a multiple of 8.
__device__ __forceinline__ int stretch_begin(const BandTableTile& tile, int stretch) {
  return tile.begin / kUnit * kUnit + static_cast<int>(blockIdx.y) * stretch;
}

// Every warp sums kFragments * 16 channels of 32 hidden units; kGroups warps share a tile.
template <int kFragments, int kGroups>
__global__ void __launch_bounds__(kTiles * kGroups * kWarp, 2 / kGroups)
    gradient_kernel(const Args p) {
  constexpr int kWarps = kTiles * kGroups, kOwn = kFragments * 16, kStretch = kOwn * kGroups;
  constexpr int kBiasFragments = 4 / kGroups;  // of 8 hidden units, a warp's share of db
  const BandTable& band = p.band;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, group = kGroups == 1 ? 0 : warp / kTiles;
  const int first_tile = static_cast<int>(blockIdx.x) * kTiles;
  const int last_tile = min(first_tile + kTiles, band.tiles) - 1;
  const int first_channel = stretch_begin(band.tile[first_tile], kStretch);
  const int end_channel =
      min(stretch_begin(band.tile[last_tile], kStretch) + kStretch, band.tile[last_tile].end);
  const int units = max(0, end_channel - first_channel + kUnit - 1) / kUnit;
  const int first_hidden = first_tile * static_cast<int>(kBandTile);

  const int pitch_bytes = p.pitch * 16, channels_bytes = kDepth * pitch_bytes;
  const int stage_bytes = channels_bytes + kDepth * kHiddenPitch * 16;
  unsigned char* const ring = held(shared_memory<unsigned char>());
  const int begin_row = static_cast<int>(blockIdx.z) * p.rows;
  const int end_row = min(begin_row + p.rows, p.M);
  int loading_row = begin_row, loading_stage = 0;
  // `whole`: all rows of the chunk are there. Where nothing is read, an address lies inside all the
  // same.
  const auto load_chunk = [&](auto whole) {
    unsigned char* const stage = ring + loading_stage * stage_bytes;
    const int row0 = loading_row + warp;
    const bf16* const channels =
        p.residual + int64_t{row0} * band.residual + first_channel + lane * kUnit;
#pragma unroll
    for (int unit = 0; unit < kMostUnits; unit += kWarp) {
      if (unit + lane >= units) continue;
#pragma unroll
      for (int r = 0; r < kDepth; r += kWarps) {
        const bool there = decltype(whole)::value || row0 + r < end_row;
        copy_async(stage + (warp + r) * pitch_bytes + (unit + lane) * 16,
                   there ? channels + int64_t{r} * band.residual + unit * kUnit : p.residual,
                   there ? 16 : 0);
      }
    }
    const int half_row0 = 2 * warp + lane / 16, h = first_hidden + lane % 16 * kUnit;
    const bool in_row = h < band.hidden;
    const bf16* const hidden =
        p.hidden + int64_t{loading_row + half_row0} * band.hidden + (in_row ? h : 0);
#pragma unroll
    for (int r = 0; r < kDepth; r += 2 * kWarps) {
      const bool there = decltype(whole)::value || loading_row + half_row0 + r < end_row;
      copy_async(stage + channels_bytes + ((half_row0 + r) * kHiddenPitch + lane % 16) * 16,
                 there ? hidden + int64_t{r} * band.hidden : p.hidden, there && in_row ? 16 : 0);
    }
  };
  const auto load_next = [&] {
    if (loading_row < end_row) {
      if (loading_row + kDepth <= end_row) {
        load_chunk(std::true_type());
      } else {
        load_chunk(std::false_type());
      }
      loading_row += kDepth;
      loading_stage = loading_stage + 1 == kStages ? 0 : loading_stage + 1;
    }
    copy_commit();
  };

  // Channels that are computed only because fragments are whole are not stored; what stands for
  // them in shared memory may be anything.
  const int t = first_tile + warp % kTiles;
  const BandTableTile tile = band.tile[min(t, band.tiles - 1)];
  const int own = stretch_begin(tile, kStretch) + group * kOwn;
  const bool sums_bias = p.bias_parts && blockIdx.y == 0;
  const bool active = t < band.tiles && (own < tile.end || sums_bias);
  float sums[kFragments][4][4] = {};
  float bias[kBiasFragments][4] = {};
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load_next();
  int stage = 0;
  for (int row = begin_row; row < end_row; row += kDepth) {
    copy_wait<kStages - 2>();
    __syncthreads();
    load_next();
    const unsigned char* const channels = ring + stage * stage_bytes + (own - first_channel) * 2;
    const unsigned char* const hidden =
        ring + stage * stage_bytes + channels_bytes + warp % kTiles * (kBandTile * 2);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    if (!active) continue;
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t b[4][2];
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        uint32_t pair[4];
        load_matrices_transposed(pair,
                                 hidden + ((k + lane % 16) * kHiddenPitch + j + lane / 16) * 16);
        b[j][0] = pair[0], b[j][1] = pair[1], b[j + 1][0] = pair[2], b[j + 1][1] = pair[3];
      }
      if (sums_bias) {
        const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (j / kBiasFragments == group) mma_bf16(bias[j % kBiasFragments], ones, b[j]);
        }
      }
      const unsigned char* const from =
          channels + (k + lane / 16 * 8 + lane % 8) * pitch_bytes + lane / 8 % 2 * 16;
#pragma unroll
      for (int i = 0; i < kFragments; ++i) {
        uint32_t a[4];
        load_matrices_transposed(a, from + 32 * i);
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_bf16(sums[i][j], a, b[j]);
      }
    }
  }
  if (!active) return;

  float* const part = p.parts + blockIdx.z * p.floats + tile.offset + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const int channel = own + 16 * i + 8 * lower + lane / 4;
      if (channel < tile.begin || channel >= tile.end) continue;
      float* const line = part + (channel - tile.begin) * kBandTile;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        store_vector(line + 8 * j, make_float2(sums[i][j][2 * lower], sums[i][j][2 * lower + 1]));
      }
    }
  }
  if (!sums_bias || lane >= 4) return;
#pragma unroll
  for (int j = 0; j < kBiasFragments; ++j) {
    const int h = tile.hidden + (group * kBiasFragments + j) * 8 + lane * 2;
    float* const to = p.bias_parts + blockIdx.z * int64_t{band.hidden} + h;
    if (h < band.hidden) to[0] = bias[j][0];
    if (h + 1 < band.hidden) to[1] = bias[j][1];
  }
}

// How windows are cut: the kernel's shape, and the stretches of a window.
struct Cut {
  int fragments, groups;
  int64_t stretches, pitch, bytes, rows, parts;
};

constexpr int kShapes[][2] = {{2, 1}, {3, 1}, {5, 1}, {7, 1}, {9, 1}, {7, 2}, {9, 2}};

Cut cut_of(const BandLayout& layout, int64_t M) {
  const std::vector<BandTile>& tiles = layout.tiles();
  const auto begin = [&](size_t t) { return tiles[t].begin / kUnit * kUnit; };
  int64_t widest = 1, moved = 0;  // from the first to the last tile of a block
  for (size_t t = 0; t < tiles.size(); ++t) {
    widest = std::max(widest, tiles[t].end - begin(t));
    moved = std::max(moved, begin(t) - begin(t / kTiles * kTiles));
  }
  Cut best{};
  int64_t least = 0;
  for (const auto& [fragments, groups] : kShapes) {
    const int64_t stretch = 16 * fragments * groups, stretches = ceil_div(widest, stretch);
    const int64_t pitch = (moved + stretch) / kUnit | 1;
    const int64_t bytes = kStages * kDepth * (pitch + kHiddenPitch) * 16;
    // Every stretch reads the hidden values again.
    const int64_t cost = stretches * (stretch + 32);
    if (bytes > static_cast<int64_t>(kMostSharedBytes) || pitch > kMostUnits ||
        (best.fragments && cost >= least)) {
      continue;
    }
    least = cost;
    best = {fragments, groups, stretches, pitch, bytes, 0, 0};
  }
  if (!best.fragments) return best;
  const int64_t blocks = ceil_div(static_cast<int64_t>(tiles.size()), kTiles) * best.stretches;
  const RowParts parts(M, blocks, best.groups == 1 ? 264 : 132, kDepth);
  best.rows = parts.rows;
  best.parts = parts.count;
  return best;
}

template <int kFragments, int kGroups>
void run(const Context& context, const BandGradient& g, const Cut& cut, const Args& args) {
  launch("band gradient", gradient_kernel<kFragments, kGroups>,
         dim3(static_cast<unsigned>(ceil_div(g.band.tiles, kTiles)),
              static_cast<unsigned>(cut.stretches), static_cast<unsigned>(cut.parts)),
         dim3(kTiles * kGroups * kWarp), static_cast<size_t>(cut.bytes), context.stream, args);
}

}  // namespace

bool band_gradient_fits(const BandLayout& layout) { return cut_of(layout, 1).fragments > 0; }

int64_t band_gradient_workspace_bf16(const BandLayout& layout, int64_t M) {
  return cut_of(layout, M).parts * (layout.floats() + layout.hidden());
}

void band_gradient_bf16(const Context& context, const BandGradient& g) {
  const Cut cut = cut_of(*g.layout, g.M);
  const int64_t floats = g.layout->floats();
  float* const bias_parts = g.db ? g.workspace + cut.parts * floats : nullptr;
  const Args args = {static_cast<const bf16*>(g.residual),
                     static_cast<const bf16*>(g.hidden),
                     g.band,
                     g.workspace,
                     bias_parts,
                     floats,
                     static_cast<int>(g.M),
                     static_cast<int>(cut.rows),
                     static_cast<int>(cut.pitch)};
  switch (cut.fragments * 10 + cut.groups) {
    case 21:
      run<2, 1>(context, g, cut, args);
      break;
    case 31:
      run<3, 1>(context, g, cut, args);
      break;
    case 51:
      run<5, 1>(context, g, cut, args);
      break;
    case 71:
      run<7, 1>(context, g, cut, args);
      break;
    case 91:
      run<9, 1>(context, g, cut, args);
      break;
    case 72:
      run<7, 2>(context, g, cut, args);
      break;
    default:
      run<9, 2>(context, g, cut, args);
  }
  add_band_parts(context, g.band, g.workspace, floats, cut.parts, g.dw);
  if (g.db) add_parts(context, bias_parts, g.band.hidden, cut.parts, g.db);
}

}  // namespace pyllmc::cuda
