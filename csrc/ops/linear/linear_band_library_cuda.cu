// The band's products by cuBLASLt alone: batches of small products over neighbouring tiles, whose
// windows overlap and move by a constant stride. Slower than the kernels beside it, and what they
// are checked and measured against.
#include <algorithm>

#include "cuda/gemm.h"
#include "ops/linear/linear_band_cuda.cuh"
#include "ops/linear/linear_parts_cuda.h"

namespace pyllmc::cuda {
namespace {

// Neighbouring tiles of equal windows, each moved by as many channels.
struct Run {
  BandTile first;
  int64_t count, moved;
};

std::vector<Run> runs_of(const BandLayout& layout) {
  std::vector<Run> runs;
  const BandTile* last = nullptr;
  for (const BandTile& tile : layout.tiles()) {
    if (tile.window() == 0) continue;
    Run* const run = runs.empty() ? nullptr : &runs.back();
    const bool fits = run && tile.hidden == last->hidden + kBandTile && tile.units == kBandTile &&
                      tile.window() == run->first.window() &&
                      (run->count == 1 || tile.begin - last->begin == run->moved);
    if (fits) {
      run->moved = tile.begin - last->begin;
      ++run->count;
    } else {
      runs.push_back({tile, 1, 0});
    }
    last = &tile;
  }
  return runs;
}

const void* at(const void* base, DType type, int64_t element) {
  return static_cast<const char*>(base) + element * (type == DType::bf16 ? 2 : 4);
}

void clear(const Context& context, float* data, int64_t floats) {
  if (floats == 0) return;
  check(cudaMemsetAsync(data, 0, static_cast<size_t>(floats) * sizeof(float),
                        static_cast<cudaStream_t>(context.stream)),
        "setting memory to 0");
}

// A workspace: the library's own, then a result in fp32.
float* behind(float* workspace) { return workspace + kGemmWorkspaceFloats; }

}  // namespace

void band_product_by_library(const Context& context, const BandProduct& b, DType type,
                             float* workspace) {
  const int64_t M = b.finish.M, C = b.band.residual, H = b.band.hidden;
  float* const sums = behind(workspace);  // (M, N)
  clear(context, sums, M * b.finish.N);
  for (const Run& run : runs_of(*b.layout)) {
    const BandTile& tile = run.first;
    const int64_t window = tile.window(), floats = window * kBandTile;
    const void* const w = at(b.w, type, tile.offset);
    if (b.expands) {
      gemm(context,
           {.M = M,
            .N = tile.units,
            .K = window,
            .type = type,
            .a = {at(b.x, type, tile.begin), C, false, run.moved},
            .b = {w, kBandTile, false, floats},
            .out = sums + tile.hidden,
            .ld = H,
            .out_type = DType::fp32,
            .stride = kBandTile,
            .batch = run.count},
           workspace);
      continue;
    }
    // Tiles that are far enough apart write different channels: one batch a phase.
    const int64_t apart = run.moved ? ceil_div(window, run.moved) : run.count;
    for (int64_t phase = 0; phase < std::min(apart, run.count); ++phase) {
      gemm(context,
           {.M = M,
            .N = window,
            .K = tile.units,
            .type = type,
            .a = {at(b.x, type, tile.hidden + phase * kBandTile), H, false, apart * kBandTile},
            .b = {at(w, type, phase * floats), kBandTile, true, apart * floats},
            .out = sums + tile.begin + phase * run.moved,
            .ld = C,
            .out_type = DType::fp32,
            .stride = apart * run.moved,
            .add = sums + tile.begin + phase * run.moved,
            .batch = ceil_div(run.count - phase, apart)},
           workspace);
    }
  }
  finish_sums(context, b.finish, sums);
}

void band_gradient_by_library(const Context& context, const BandGradient& g, DType type) {
  const int64_t C = g.band.residual, H = g.band.hidden, floats = g.layout->floats();
  float* const sums = behind(g.workspace);  // of the tiles
  clear(context, sums, floats);
  for (const Run& run : runs_of(*g.layout)) {
    const BandTile& tile = run.first;
    gemm(context,
         {.M = tile.window(),
          .N = tile.units,
          .K = g.M,
          .type = type,
          .a = {at(g.residual, type, tile.begin), C, true, run.moved},
          .b = {at(g.hidden, type, tile.hidden), H, false, kBandTile},
          .out = sums + tile.offset,
          .ld = kBandTile,
          .out_type = DType::fp32,
          .stride = tile.window() * kBandTile,
          .batch = run.count},
         g.workspace);
  }
  add_band_parts(context, g.band, sums, floats, 1, g.dw);
}

int64_t band_workspace_by_library(const BandLayout& layout, int64_t M) {
  return kGemmWorkspaceFloats +
         std::max({M * layout.hidden(), M * layout.residual(), layout.floats()});
}

}  // namespace pyllmc::cuda
