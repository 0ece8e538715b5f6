#include <algorithm>
#include <cmath>

#include "core/panels.h"
#include "core/simd.h"
#include "core/threads.h"
#include "ops/classifier/classifier.h"

namespace pyllmc {
namespace {

constexpr int64_t kTileVocab = 512;         // vocabulary rows of a tile
constexpr int64_t kChunkFloats = 16 << 20;  // logits of a chunk: 64 MiB
constexpr int64_t kMinChunk = 64, kMaxChunk = 512;
constexpr int64_t kTurnedRows = 16;  // of dwte that are turned from dwte^T at once
constexpr int64_t kGroups = 8;       // of tiles, each with its own part of dx

// How M tokens and V vocabulary rows are cut, from their numbers alone.
struct Cut {
  int64_t chunk;   // tokens that are worked on together
  int64_t tiles;   // of the vocabulary
  int64_t groups;  // of tiles
  Cut(int64_t tokens, int64_t vocab) {
    const int64_t fits = kChunkFloats / vocab / kMinChunk * kMinChunk;
    chunk = std::min(tokens, std::clamp(fits, kMinChunk, kMaxChunk));
    tiles = ceil_div(vocab, kTileVocab);
    groups = std::min(kGroups, tiles);
  }
  int64_t group_begin(int64_t group) const { return group * tiles / groups; }
};

// Parts of the workspace for one chunk.
struct Scratch {
  Unit* x;             // the chunk's rows of x, packed
  Unit* x_transposed;  // the same as columns; gradients only
  float* own;          // of each thread: packed operands and a part of dwte
  int64_t own_floats;
  float* logits;        // tile by tile, (rows, tile columns) each
  float* tile_max;      // (tiles, chunk)
  float* tile_sum;      // (tiles, chunk): sum of exp(logit - tile_max)
  float* target_logit;  // (chunk)
  float* log_sum_exp;   // (chunk)
  float* dx_part;       // (groups, chunk, C)
};

// Replaces a row of logits by exp(logit - max) and gives the max and the sum.
PYLLMC_SIMD void exponentials(float* row, int64_t n, float* max_out, float* sum_out) {
  const int64_t whole = n / kLanes * kLanes, rest = n - whole;
  const float lowest = -__builtin_inff();
  f32x16 high = broadcast(lowest);
  for (int64_t c = 0; c < whole; c += kLanes) high = max16(high, load16(row + c));
  if (rest) high = max16(high, load_part(row + whole, rest, lowest));
  const float top = max16(high);
  f32x16 sums{};
  for (int64_t c = 0; c < whole; c += kLanes) {
    const f32x16 e = exp16(load16(row + c) - top);
    store16(row + c, e);
    sums += e;
  }
  if (rest) {
    const f32x16 e = exp16(load_part(row + whole, rest, lowest) - top);
    store_part(row + whole, e, rest);
    sums += e;
  }
  *max_out = top;
  *sum_out = sum16(sums);
}

int64_t rounded(int64_t floats) { return ceil_div(floats, kLanes) * kLanes; }

// Units of a chunk's x^T; a last chunk with fewer rows needs no more.
int64_t transposed_units(const PanelEngine& engine, const Cut& cut, int64_t C) {
  return engine.a_units(C, cut.chunk);
}

PYLLMC_SIMD void add(float* out, const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += values[i];
}

PYLLMC_SIMD void multiply(float* row, int64_t n, float factor) {
  for (int64_t c = 0; c < n; ++c) row[c] *= factor;
}

// Floats that a thread needs of its own: packed rows of wte, then packed logits, then dwte^T.
struct OwnCut {
  int64_t wte, logits, dwte;
  OwnCut(const PanelEngine& engine, int64_t chunk, int64_t C, bool gradients)
      : wte(std::max(engine.b_units(C, kTileVocab), gradients ? engine.b_units(kTileVocab, C) : 0)),
        logits(gradients
                   ? std::max(engine.a_units(chunk, kTileVocab), engine.b_units(chunk, kTileVocab))
                   : 0),
        dwte(gradients ? C * kTileVocab + kTurnedRows * C : 0) {}
  int64_t floats() const { return rounded(wte) + rounded(logits) + rounded(dwte); }
};

class Chunk {
 public:
  Chunk(const Context& context, const ClassifierArgs& args, const Cut& cut, const Scratch& scratch,
        int64_t begin)
      : engine_(PanelEngine::get(context.precision)),
        a_(args),
        cut_(cut),
        s_(scratch),
        begin_(begin),
        rows_(std::min(cut.chunk, args.x.dim(0) - begin)) {
    const int64_t C = a_.x.dim(1), panel_rows = engine_.tile_rows();
    const float* x = a_.x.data() + begin_ * C;
    parallel_for(context.threads, ceil_div(rows_, panel_rows), [&](int64_t panel, int) {
      const int64_t row = panel * panel_rows;
      engine_.pack_a(x + row * C, C, std::min(panel_rows, rows_ - row), C,
                     s_.x + panel * engine_.a_panel_units(C));
    });
    if (!a_.dx) return;
    parallel_for(context.threads, ceil_div(C, panel_rows), [&](int64_t panel, int) {
      const int64_t c = panel * panel_rows;
      engine_.pack_a_transposed(x + c, C, std::min(panel_rows, C - c), rows_,
                                s_.x_transposed + panel * engine_.a_panel_units(rows_));
    });
  }

  // Logits of one tile, its maxima and sums of exponentials, and the targets that fall into it.
  void tile_forward(int64_t tile, int thread) const {
    const int64_t C = a_.x.dim(1), first = tile * kTileVocab, cols = columns(tile);
    float* logits = tile_logits(tile, thread);
    Unit* wte = own(thread);
    engine_.pack_b_transposed(a_.wte.data() + first * C, C, C, cols, wte);
    product(s_.x, rows_, C, wte, cols, logits, cols, false);
    for (int64_t r = 0; r < rows_; ++r) {
      float* row = logits + r * cols;
      const int64_t target = a_.targets.data()[begin_ + r] - first;
      if (target >= 0 && target < cols) s_.target_logit[r] = row[target];
      exponentials(row, cols, s_.tile_max + tile * cut_.chunk + r,
                   s_.tile_sum + tile * cut_.chunk + r);
    }
  }

  // Joins the tiles' parts of every row and adds up the chunk's loss.
  Loss rows_forward() const {
    Loss loss;
    for (int64_t r = 0; r < rows_; ++r) {
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
      if (a_.targets.data()[begin_ + r] < 0) continue;
      loss.sum += lse - s_.target_logit[r];
      ++loss.count;
    }
    return loss;
  }

  // Turns one tile of exponentials into scale (p - onehot), then adds its parts of dwte and dx.
  void tile_backward(int64_t tile, int64_t group, int thread) const {
    const int64_t C = a_.x.dim(1), first = tile * kTileVocab, cols = columns(tile);
    const float scale = *a_.scale;
    float* g = tile_logits(tile, 0);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t label = a_.targets.data()[begin_ + r];
      const float factor =
          label < 0 ? 0.0f
                    : scale * std::exp(s_.tile_max[tile * cut_.chunk + r] - s_.log_sum_exp[r]);
      float* row = g + r * cols;
      multiply(row, cols, factor);
      if (label >= first && label < first + cols) row[label - first] -= scale;
    }
    const OwnCut cut(engine_, cut_.chunk, C, true);
    Unit* wte = own(thread);
    Unit* packed = wte + rounded(cut.wte);
    auto* sums = reinterpret_cast<float*>(packed + rounded(cut.logits));

    engine_.pack_a(g, cols, rows_, cols, packed);
    engine_.pack_b(a_.wte.data() + first * C, C, cols, C, wte);
    product(packed, rows_, cols, wte, C, s_.dx_part + group * cut_.chunk * C, C,
            tile != cut_.group_begin(group));

    engine_.pack_b(g, cols, rows_, cols, packed);
    product(s_.x_transposed, C, rows_, packed, cols, sums, cols, false);
    float* turned = sums + C * kTileVocab;
    for (int64_t v = 0; v < cols; v += kTurnedRows) {
      const int64_t n = std::min(kTurnedRows, cols - v);
      transpose(sums + v, cols, C, n, turned, C);
      add(a_.dwte.data() + (first + v) * C, turned, n * C);
    }
  }

  void rows_backward(int64_t begin, int64_t end) const {
    const int64_t C = a_.x.dim(1);
    float* dx = a_.dx.data() + begin_ * C;
    for (int64_t at = begin * C; at < std::min(end, rows_) * C; ++at) {
      float sum = 0;
      for (int64_t group = 0; group < cut_.groups; ++group) {
        sum += s_.dx_part[group * cut_.chunk * C + at];
      }
      dx[at] = sum;
    }
  }

 private:
  // out (rows, cols) (+)= a (rows, k) b (k, cols), both packed.
  void product(const Unit* a, int64_t rows, int64_t k, const Unit* b, int64_t cols, float* out,
               int64_t ld, bool accumulate) const {
    const int64_t width = engine_.tile_cols();
    for (int64_t col = 0; col < cols; col += width) {
      engine_.multiply(a, engine_.a_panel_units(k), rows, 0, engine_.units(k),
                       b + col / width * engine_.b_panel_units(k), std::min(width, cols - col),
                       out + col, ld, accumulate);
    }
  }
  Unit* own(int thread) const { return reinterpret_cast<Unit*>(s_.own + thread * s_.own_floats); }
  int64_t columns(int64_t tile) const { return std::min(kTileVocab, a_.vocab - tile * kTileVocab); }
  float* tile_logits(int64_t tile, int thread) const {
    return s_.logits + (a_.dx ? tile : thread) * cut_.chunk * kTileVocab;
  }

  const PanelEngine& engine_;
  const ClassifierArgs& a_;
  const Cut& cut_;
  const Scratch& s_;
  int64_t begin_, rows_;
};

int64_t workspace(const Context& context, int64_t tokens, int64_t channels, int64_t vocab,
                  bool gradients) {
  const Cut cut(tokens, vocab);
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const int64_t packed = engine.a_units(cut.chunk, channels) +
                         (gradients ? transposed_units(engine, cut, channels) : 0);
  const int64_t own = context.threads * OwnCut(engine, cut.chunk, channels, gradients).floats();
  const int64_t logits = (gradients ? cut.tiles : context.threads) * cut.chunk * kTileVocab;
  const int64_t parts = 2 * cut.tiles * cut.chunk + 2 * cut.chunk;
  const int64_t dx_part = gradients ? cut.groups * cut.chunk * channels : 0;
  return packed + own + logits + parts + dx_part + 9 * kLanes;
}

void run(const Context& context, const ClassifierArgs& a) {
  const int64_t M = a.x.dim(0), C = a.x.dim(1);
  const bool gradients = static_cast<bool>(a.dx);
  const Cut cut(M, a.vocab);
  float* at = context.scratch("classifier", workspace(context, M, C, a.vocab, gradients));
  const auto take = [&at](int64_t floats) {
    float* start = at;
    at += rounded(floats);
    return start;
  };
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const auto take_units = [&](int64_t units) { return reinterpret_cast<Unit*>(take(units)); };
  Scratch scratch{};
  scratch.x = take_units(engine.a_units(cut.chunk, C));
  if (gradients) scratch.x_transposed = take_units(transposed_units(engine, cut, C));
  scratch.own_floats = OwnCut(engine, cut.chunk, C, gradients).floats();
  scratch.own = take(context.threads * scratch.own_floats);
  scratch.logits = take((gradients ? cut.tiles : context.threads) * cut.chunk * kTileVocab);
  scratch.tile_max = take(cut.tiles * cut.chunk);
  scratch.tile_sum = take(cut.tiles * cut.chunk);
  scratch.target_logit = take(cut.chunk);
  scratch.log_sum_exp = take(cut.chunk);
  if (gradients) scratch.dx_part = take(cut.groups * cut.chunk * C);

  Loss total;
  for (int64_t begin = 0; begin < M; begin += cut.chunk) {
    const Chunk chunk(context, a, cut, scratch, begin);
    parallel_for(context.threads, cut.tiles,
                 [&](int64_t tile, int thread) { chunk.tile_forward(tile, thread); });
    const Loss loss = chunk.rows_forward();
    total.sum += loss.sum;
    total.count += loss.count;
    if (!gradients) continue;
    parallel_for(context.threads, cut.groups, [&](int64_t group, int thread) {
      for (int64_t t = cut.group_begin(group); t < cut.group_begin(group + 1); ++t) {
        chunk.tile_backward(t, group, thread);
      }
    });
    parallel_for(context.threads, ceil_div(cut.chunk, 64),
                 [&](int64_t block, int) { chunk.rows_backward(block * 64, block * 64 + 64); });
  }
  a.loss->sum += total.sum;
  a.loss->count += total.count;
}

}  // namespace

const ClassifierKernels classifier_cpu = {run, workspace};

}  // namespace pyllmc
