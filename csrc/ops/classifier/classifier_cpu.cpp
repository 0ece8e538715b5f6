#include <algorithm>
#include <cmath>

#include "core/panels.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/threads.h"
#include "core/transpose.h"
#include "ops/classifier/classifier.h"

namespace pyllmc {
namespace {

constexpr int64_t kChunkFloats = 16 << 20;  // logits of a chunk: 64 MiB
constexpr int64_t kChunkStep = 48, kMaxChunk = 480;
constexpr int64_t kGroups = 32;  // of tiles, each with its own part of dx
constexpr int64_t kRows = 16;    // of a work item where rows are joined

// How M tokens and V vocabulary rows are cut, from their numbers alone.
struct Cut {
  int64_t chunk;   // tokens that are worked on together
  int64_t tile;    // vocabulary rows of a tile: fewer where there would be few tiles
  int64_t tiles;   // of the vocabulary
  int64_t groups;  // of tiles
  Cut(int64_t tokens, int64_t vocab) : tile(vocab < 16384 ? 128 : 512) {
    const int64_t fits = kChunkFloats / vocab / kChunkStep * kChunkStep;
    chunk = std::min(tokens, std::clamp(fits, kChunkStep, kMaxChunk));
    tiles = ceil_div(vocab, tile);
    groups = std::min(kGroups, tiles);
  }
  int64_t group_begin(int64_t group) const { return group * tiles / groups; }
};

// The workspace's parts. Logits have the form of a packed A, blocks of 32 columns, so that in fp32
// they are operands of backward's products as they lie.
struct Parts {
  Unit *x, *x_transposed;      // the chunk's rows of x packed; the same as columns
  Unit *wte_up, *wte_down;     // every tile's wte^T and wte, packed once for all chunks
  float* dwte;                 // every tile's dwte^T (C, tile), summed over the chunks
  float* tile;                 // of every thread: the logits that it works on, in its cache
  float* logits;               // of all tiles; only backward needs them
  float *tile_max, *tile_sum;  // (tiles, chunk): the largest logit, sum of exp(logit - largest)
  float *target_logit, *log_sum_exp;  // (chunk)
  double* row_loss;                   // (chunk), 0 where the target is ignored
  float* dx_part;                     // (groups, chunk, C)
  float* own;                         // of every thread: packed logits, rows of dwte being turned
  int64_t up_floats, down_floats, logits_block, logits_floats, own_floats;

  Parts(Scratch& scratch, const PanelEngine& engine, const Cut& cut, int64_t C, bool gradients,
        int threads) {
    const PanelEngine::Tile& wide = engine.wide();
    logits_block = engine.a_block(cut.chunk);
    logits_floats = cut.tile / kBlockUnits * logits_block + wide.rows * kBlockUnits;
    up_floats = Scratch::round(engine.b_units(C, cut.tile, wide));
    x = scratch.take<Unit>(engine.a_units(cut.chunk, C));
    wte_up = scratch.take<Unit>(cut.tiles * up_floats);
    tile = scratch.take(threads * logits_floats);
    tile_max = scratch.take(cut.tiles * cut.chunk);
    tile_sum = scratch.take(cut.tiles * cut.chunk);
    target_logit = scratch.take(cut.chunk);
    log_sum_exp = scratch.take(cut.chunk);
    row_loss = scratch.take<double>(cut.chunk);
    own_floats = 2 * cut.chunk * kLanes;  // of exponentials()
    if (gradients) {
      own_floats =
          Scratch::round(std::max({own_floats, engine.a_units(cut.chunk, cut.tile),
                                   engine.b_units(cut.chunk, kBlockUnits, wide), kBlockUnits * C}));
    }
    own = scratch.take(threads * own_floats);
    if (!gradients) return;
    down_floats = Scratch::round(engine.b_units(cut.tile, C, wide));
    x_transposed = scratch.take<Unit>(engine.a_units(C, cut.chunk));
    wte_down = scratch.take<Unit>(cut.tiles * down_floats);
    logits = scratch.take(cut.tiles * logits_floats);
    dwte = scratch.take(cut.tiles * C * cut.tile);
    dx_part = scratch.take(cut.groups * cut.chunk * C);
  }
};

// out = exp(logit - max) of a tile's logits (rows, n), unless it is null; the max and the sum of
// every row. Block by block, as they lie in memory; `lanes` (2, rows, 16) is scratch.
PYLLMC_SIMD void exponentials(const float* logits, int64_t block, int64_t rows, int64_t n,
                              float* lanes, float* out, float* max_out, float* sum_out) {
  const float lowest = -__builtin_inff();
  float *high = lanes, *sums = lanes + rows * kLanes;
  for (int64_t r = 0; r < rows; ++r) {
    store16(high + r * kLanes, broadcast(lowest));
    store16(sums + r * kLanes, f32x16{});
  }
  // visit(row, offset, a, b): the 32 logits of a row's block; those beyond n are -infinity.
  const auto each = [&](const auto& visit) PYLLMC_INLINE_LAMBDA {
    for (int64_t c = 0; c < n; c += kBlockUnits) {
      const int64_t start = c / kBlockUnits * block, left = n - c;
      if (left >= kBlockUnits) {
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t at = start + r * kBlockUnits;
          visit(r, at, load16(logits + at), load16(logits + at + kLanes));
        }
        continue;
      }
      const int64_t first = left < kLanes ? left : kLanes;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = start + r * kBlockUnits;
        visit(r, at, load_part(logits + at, first, lowest),
              load_part(logits + at + kLanes, left - first, lowest));
      }
    }
  };
  each([&](int64_t r, int64_t, f32x16 a, f32x16 b) PYLLMC_INLINE_LAMBDA {
    store16(high + r * kLanes, max16(load16(high + r * kLanes), max16(a, b)));
  });
  for (int64_t r = 0; r < rows; ++r) max_out[r] = max16(load16(high + r * kLanes));
  each([&](int64_t r, int64_t at, f32x16 a, f32x16 b) PYLLMC_INLINE_LAMBDA {
    a = exp16(a - max_out[r]);
    b = exp16(b - max_out[r]);
    store16(sums + r * kLanes, load16(sums + r * kLanes) + (a + b));
    if (!out) return;
    stream16(out + at, a);
    stream16(out + at + kLanes, b);
  });
  stream_fence();
  for (int64_t r = 0; r < rows; ++r) sum_out[r] = sum16(load16(sums + r * kLanes));
}

// out = rows of a tile times their factors. The columns that complete a block are 0.
PYLLMC_SIMD void multiply(const float* tile, int64_t block, int64_t rows, int64_t n,
                          const float* factors, float* out) {
  for (int64_t c = 0; c < n; c += kBlockUnits) {
    const int64_t start = c / kBlockUnits * block;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = start + r * kBlockUnits;
      store16(out + at, load16(tile + at) * factors[r]);
      store16(out + at + kLanes, load16(tile + at + kLanes) * factors[r]);
    }
  }
}

int64_t workspace(const Context& context, int64_t tokens, int64_t channels, int64_t vocab,
                  bool gradients) {
  Scratch counting(nullptr);
  Parts(counting, PanelEngine::get(context.precision), Cut(tokens, vocab), channels, gradients,
        context.threads);
  return counting.floats();
}

class Classifier {
 public:
  Classifier(const Context& context, const ClassifierArgs& args)
      : context_(context),
        engine_(PanelEngine::get(context.precision)),
        a_(args),
        C_(args.x.dim(1)),
        gradients_(static_cast<bool>(args.dx)),
        cut_(args.x.dim(0), args.vocab),
        scratch_(context.scratch("classifier",
                                 workspace(context, args.x.dim(0), C_, args.vocab, gradients_))),
        s_(scratch_, engine_, cut_, C_, gradients_, context.threads) {}

  void run() {
    parallel_for(context_.threads, cut_.tiles, [&](int64_t tile, int) { pack_wte(tile); });
    Loss total;  // of all chunks, added to the caller's once
    const int64_t tokens = a_.x.dim(0);
    for (begin_ = 0; begin_ < tokens; begin_ += cut_.chunk) {
      rows_ = std::min(cut_.chunk, tokens - begin_);
      pack_x();
      parallel_for(context_.threads, cut_.tiles,
                   [&](int64_t tile, int thread) { tile_forward(tile, thread); });
      parallel_for(context_.threads, ceil_div(rows_, kRows), [&](int64_t block, int) {
        rows_forward(block * kRows, std::min(rows_, (block + 1) * kRows));
      });
      Loss loss;
      for (int64_t r = 0; r < rows_; ++r) {
        loss.sum += s_.row_loss[r];
        loss.count += a_.targets.data()[begin_ + r] >= 0;
      }
      total.sum += loss.sum;
      total.count += loss.count;
      if (!gradients_) continue;
      parallel_for(context_.threads, cut_.groups, [&](int64_t group, int thread) {
        for (int64_t t = cut_.group_begin(group); t < cut_.group_begin(group + 1); ++t) {
          tile_backward(t, group, thread);
        }
      });
      parallel_for(context_.threads, ceil_div(rows_, kRows), [&](int64_t block, int) {
        rows_backward(block * kRows, std::min(rows_, (block + 1) * kRows));
      });
    }
    a_.loss->sum += total.sum;
    a_.loss->count += total.count;
    if (!gradients_) return;
    parallel_for(context_.threads, cut_.tiles,
                 [&](int64_t tile, int thread) { add_dwte(tile, thread); });
  }

 private:
  void pack_wte(int64_t tile) const {
    const float* wte = a_.wte.data() + tile * cut_.tile * C_;
    const PanelEngine::Tile& wide = engine_.wide();
    engine_.pack_b_transposed(wte, C_, C_, columns(tile), wide, s_.wte_up + tile * s_.up_floats);
    if (!gradients_) return;
    engine_.pack_b(wte, C_, columns(tile), C_, wide, s_.wte_down + tile * s_.down_floats);
  }

  void pack_x() const {
    const float* x = a_.x.data() + begin_ * C_;
    parallel_for(context_.threads, ceil_div(rows_, kChunkStep), [&](int64_t block, int) {
      const int64_t row = block * kChunkStep;
      engine_.pack_a(x + row * C_, C_, std::min(kChunkStep, rows_ - row), C_,
                     s_.x + row * kBlockUnits, engine_.a_block(cut_.chunk));
    });
    if (!gradients_) return;
    constexpr int64_t kChannels = 16;
    parallel_for(context_.threads, ceil_div(C_, kChannels), [&](int64_t block, int) {
      const int64_t c = block * kChannels;
      engine_.pack_a_transposed(x + c, C_, std::min(kChannels, C_ - c), rows_,
                                s_.x_transposed + c * kBlockUnits, engine_.a_block(C_));
    });
  }

  // Logits of one tile, its maxima and sums of exponentials, and the targets that fall into it.
  void tile_forward(int64_t tile, int thread) const {
    const int64_t first = tile * cut_.tile, cols = columns(tile);
    const PanelEngine::Tile& wide = engine_.wide();
    float* logits = s_.tile + thread * s_.logits_floats;
    const Unit* wte = s_.wte_up + tile * s_.up_floats;
    for (int64_t c = 0; c < cols; c += wide.cols, wte += engine_.b_panel_units(C_, wide)) {
      engine_.multiply(wide, {s_.x, engine_.a_block(cut_.chunk), rows_}, 0, engine_.units(C_),
                       {wte, wide.cols, wide.cols}, entry(logits, 0, c), kBlockUnits, false);
    }
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t target = a_.targets.data()[begin_ + r] - first;
      if (target >= 0 && target < cols) s_.target_logit[r] = *entry(logits, r, target);
    }
    exponentials(logits, s_.logits_block, rows_, cols, s_.own + thread * s_.own_floats,
                 gradients_ ? s_.logits + tile * s_.logits_floats : nullptr,
                 s_.tile_max + tile * cut_.chunk, s_.tile_sum + tile * cut_.chunk);
  }

  // Joins the tiles' parts of rows.
  void rows_forward(int64_t begin, int64_t end) const {
    for (int64_t r = begin; r < end; ++r) {
      float top = s_.tile_max[r];
      for (int64_t t = 1; t < cut_.tiles; ++t) {
        top = std::max(top, s_.tile_max[t * cut_.chunk + r]);
      }
      double sum = 0;
      for (int64_t t = 0; t < cut_.tiles; ++t) {
        const int64_t at = t * cut_.chunk + r;
        sum += s_.tile_sum[at] * std::exp(static_cast<double>(s_.tile_max[at]) - top);
      }
      const double lse = top + std::log(sum);
      s_.log_sum_exp[r] = static_cast<float>(lse);
      const bool ignored = a_.targets.data()[begin_ + r] < 0;
      s_.row_loss[r] = ignored ? 0 : lse - s_.target_logit[r];
    }
  }

  // Turns one tile of exponentials into scale (p - onehot), then adds its parts of dx and dwte.
  void tile_backward(int64_t tile, int64_t group, int thread) const {
    const int64_t first = tile * cut_.tile, cols = columns(tile), block = s_.logits_block;
    const float scale = *a_.scale;
    float* g = s_.tile + thread * s_.logits_floats;
    float* factors = s_.own + thread * s_.own_floats;
    for (int64_t r = 0; r < rows_; ++r) {
      const bool ignored = a_.targets.data()[begin_ + r] < 0;
      const float part = s_.tile_max[tile * cut_.chunk + r] - s_.log_sum_exp[r];
      factors[r] = ignored ? 0.0f : scale * std::exp(part);
    }
    multiply(s_.logits + tile * s_.logits_floats, block, rows_, cols, factors, g);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t label = a_.targets.data()[begin_ + r] - first;
      if (label >= 0 && label < cols) *entry(g, r, label) -= scale;
    }
    const PanelEngine::Tile& wide = engine_.wide();
    const bool fp32 = context_.precision == Precision::fp32;
    auto* own = reinterpret_cast<Unit*>(s_.own + thread * s_.own_floats);
    PackedA rows = {reinterpret_cast<const Unit*>(g), block, rows_};
    if (!fp32) {
      rows = {own, engine_.a_block(cut_.chunk), rows_};
      for (int64_t c = 0; c < cols; c += kBlockUnits) {
        const int64_t unit = engine_.units(c);
        engine_.pack_a(entry(g, 0, c), kBlockUnits, rows_, std::min(kBlockUnits, cols - c),
                       own + unit / kBlockUnits * rows.block + unit % kBlockUnits, rows.block);
      }
    }
    const Unit* wte = s_.wte_down + tile * s_.down_floats;
    for (int64_t c = 0; c < C_; c += wide.cols, wte += engine_.b_panel_units(cols, wide)) {
      engine_.multiply(
          wide, rows, 0, engine_.units(cols), {wte, wide.cols, std::min(wide.cols, C_ - c)},
          s_.dx_part + group * cut_.chunk * C_ + c, C_, tile != cut_.group_begin(group));
    }
    for (int64_t c = 0; c < cols; c += wide.cols) {
      const float* values = entry(g, 0, c);
      PanelB panel = {reinterpret_cast<const Unit*>(values), kBlockUnits, wide.cols};
      if (!fp32) {
        engine_.pack_b(values, kBlockUnits, rows_, wide.cols, wide, own);
        panel = {own, wide.cols, wide.cols};
      }
      engine_.multiply(wide, {s_.x_transposed, engine_.a_block(C_), C_}, 0, engine_.units(rows_),
                       panel, dwte_block(tile, c) + c % kBlockUnits, kBlockUnits, begin_ > 0);
    }
  }

  void rows_backward(int64_t begin, int64_t end) const {
    const int64_t count = (end - begin) * C_;
    float* dx = a_.dx.data() + (begin_ + begin) * C_;
    const float* part = s_.dx_part + begin * C_;
    std::copy_n(part, count, dx);
    for (int64_t group = 1; group < cut_.groups; ++group) {
      add_row(dx, part + group * cut_.chunk * C_, count);
    }
  }

  void add_dwte(int64_t tile, int thread) const {
    const int64_t cols = columns(tile);
    float* turned = s_.own + thread * s_.own_floats;
    for (int64_t v = 0; v < cols; v += kBlockUnits) {
      const int64_t n = std::min(kBlockUnits, cols - v);
      transpose(dwte_block(tile, v), kBlockUnits, C_, n, turned, C_);
      add_row(a_.dwte.data() + (tile * cut_.tile + v) * C_, turned, n * C_);
    }
  }

  int64_t columns(int64_t tile) const { return std::min(cut_.tile, a_.vocab - tile * cut_.tile); }
  float* entry(float* logits, int64_t row, int64_t col) const {
    return logits + col / kBlockUnits * s_.logits_block + row * kBlockUnits + col % kBlockUnits;
  }
  float* dwte_block(int64_t tile, int64_t col) const {
    return s_.dwte + (tile * cut_.tile + col / kBlockUnits * kBlockUnits) * C_;
  }

  const Context& context_;
  const PanelEngine& engine_;
  const ClassifierArgs& a_;
  int64_t C_;
  bool gradients_;
  Cut cut_;
  Scratch scratch_;
  Parts s_;
  int64_t begin_ = 0, rows_ = 0;  // the chunk
};

void run(const Context& context, const ClassifierArgs& args) { Classifier(context, args).run(); }

}  // namespace

const ClassifierKernels classifier_cpu = {run, workspace};

}  // namespace pyllmc
