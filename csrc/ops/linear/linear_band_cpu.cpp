// The three products of a banded weight, over the tiles of its layout. With T a tile [window][32]:
//   expand    out[m, h] = sum over the window of x[m, c] T[c, h]       FC1 forward, FC2's dx
//   contract  out[m, c] = sum over hidden h of x[m, h] T[c, h]         FC2 forward, FC1's dx
//   gradient  dT[c, h] += sum over m of r[m, c] u[m, h]                both weights
#include <algorithm>

#include "ops/linear/linear_cpu.h"

namespace pyllmc {
namespace {

// Backward cuts the rows into at most kParts, each with its own sums of dT, and a part into equal
// chunks of at most kBandChunk: what is read twice of a chunk stays in a thread's caches. Below
// kLeastChunk adding up the parts would cost as much as their sums.
constexpr int64_t kParts = 8, kBandChunk = 256, kLeastChunk = 64;

struct RowCut {
  int64_t chunk, part;  // rows
  int64_t parts;
  explicit RowCut(int64_t M) {
    const int64_t share = ceil_div(M, kParts), chunks = ceil_div(share, kBandChunk);
    chunk = std::max(kLeastChunk, ceil_div(ceil_div(share, chunks), 8) * 8);
    part = chunks * chunk;
    parts = ceil_div(M, part);
  }
};

// A range of a product's tiles or panels: share `index` of `count`.
struct Share {
  int64_t index, count;
  int64_t begin(int64_t n) const { return n * index / count; }
  int64_t end(int64_t n) const { return n * (index + 1) / count; }
};

// Shares of a part, for more threads than parts: each packs the rows again, about a fifth of a
// part's work.
int64_t shares_of(int64_t parts, int threads) {
  constexpr int64_t kMostShares = 8;
  const auto time = [&](int64_t shares) {
    return static_cast<double>(ceil_div(parts * shares, threads)) *
           (0.2 + 0.8 / static_cast<double>(shares));
  };
  int64_t best = 1;
  for (int64_t shares = 2; shares <= kMostShares; ++shares) {
    if (time(shares) < time(best)) best = shares;
  }
  return best;
}

// Rows [row, row + rows) of a matrix, where they are packed as a PackedA of all its columns, and
// where their sum is added, or null.
struct Rows {
  int64_t row, rows;
  Unit* packed;
  int64_t block;
  float* sums = nullptr;
};

// Calls body(Rows) for pieces of `rows` whose packed panels a product reads from a core's cache,
// each packed from x just before.
template <class Body>
void each_row_block(const PanelEngine& engine, ConstTensor x, const Rows& rows, const Body& body) {
  const int64_t K = x.dim(1), most = cached_rows(engine.units(K));
  for (int64_t at = 0; at < rows.rows; at += most) {
    const Rows piece = {rows.row + at, std::min(most, rows.rows - at),
                        rows.packed + at * kBlockUnits, rows.block};
    engine.pack_a(x.data() + piece.row * K, K, piece.rows, K, piece.packed, piece.block, rows.sums);
    body(piece);
  }
  stream_fence();
}

// put(sums, ld, row, rows, col, cols) takes a part of a product.
class Expand {
 public:
  static int64_t workspace(const Context&, const PanelEngine&, const BandLayout& band) {
    return Scratch::round(band.floats());
  }

  Expand(const Context& context, const BandLayout& band, const float* stored, Scratch& scratch)
      : engine_(PanelEngine::get(context.precision)),
        band_(band),
        panels_(scratch.take<Unit>(band.floats())) {
    const auto& tiles = band.tiles();
    parallel_for(context.threads, static_cast<int64_t>(tiles.size()), [&](int64_t t, int) {
      const BandTile& at = tiles[static_cast<size_t>(t)];
      engine_.pack_b(stored + at.offset, kBandTile, at.window(), kBandTile, engine_.wide(),
                     panels_ + at.offset);
    });
  }

  // Of rows of x (M, C).
  template <class Put>
  void multiply(ConstTensor x, const Rows& all, const Share& share, const Put& put) const {
    const PanelEngine::Tile& wide = engine_.wide();
    each_row_block(engine_, x, all, [&](const Rows& rows) {
      const PackedA a = {rows.packed, rows.block, rows.rows};
      alignas(64) float sums[kMostRows * kMostCols];
      const auto& tiles = band_.tiles();
      const auto count = static_cast<int64_t>(tiles.size());
      for (int64_t t = share.begin(count); t < share.end(count); ++t) {
        const BandTile& at = tiles[static_cast<size_t>(t)];
        PanelB panel = {panels_ + at.offset, wide.cols, wide.cols};
        for (int64_t col = 0; col < at.units; col += wide.cols) {
          const int64_t cols = std::min(wide.cols, at.units - col);
          engine_.multiply(wide, a, engine_.units(at.begin), engine_.units(at.end), panel, sums,
                           wide.cols, false, [&](int64_t row, int64_t n) {
                             put(sums + row * wide.cols, wide.cols, rows.row + row, n,
                                 at.hidden + col, cols);
                           });
          panel.units += engine_.b_panel_units(at.window(), wide);
        }
      }
    });
  }

 private:
  const PanelEngine& engine_;
  const BandLayout& band_;
  Unit* panels_;
};

// By narrow panels of residual channels, because the hidden units that a panel sees are as many
// more than a channel's as the panel is wide.
class Contract {
 public:
  static int64_t workspace(const Context& context, const PanelEngine& engine,
                           const BandLayout& band) {
    const Cut cut(engine, band);
    return cut.panels * cut.panel_units + context.threads * cut.turned;
  }

  Contract(const Context& context, const BandLayout& band, const float* stored, Scratch& scratch)
      : engine_(PanelEngine::get(context.precision)),
        band_(band),
        cut_(engine_, band),
        panels_(scratch.take<Unit>(cut_.panels * cut_.panel_units)) {
    float* turned = scratch.take<float>(context.threads * cut_.turned);
    parallel_for(context.threads, cut_.panels, [&](int64_t panel, int thread) {
      pack(panel, stored, turned + thread * cut_.turned);
    });
  }

  // Of rows of x (M, H).
  template <class Put>
  void multiply(ConstTensor x, const Rows& all, const Share& share, const Put& put) const {
    const PanelEngine::Tile& narrow = engine_.narrow();
    const int64_t width = narrow.cols, C = band_.residual();
    each_row_block(engine_, x, all, [&](const Rows& rows) {
      const PackedA a = {rows.packed, rows.block, rows.rows};
      alignas(64) float sums[kMostRows * kMostCols];
      for (int64_t panel = share.begin(cut_.panels); panel < share.end(cut_.panels); ++panel) {
        const Pattern::Span span = seen(panel);
        const int64_t cols = std::min(width, C - panel * width);
        engine_.multiply(narrow, a, engine_.units(span.begin), engine_.units(span.end),
                         {panels_ + panel * cut_.panel_units, width, width}, sums, width, false,
                         [&](int64_t row, int64_t n) {
                           put(sums + row * width, width, rows.row + row, n, panel * width, cols);
                         });
      }
    });
  }

 private:
  struct Cut {
    int64_t depth, panels, panel_units, turned;
    Cut(const PanelEngine& engine, const BandLayout& band)
        : depth(band.widest(engine.narrow().cols) + 2),
          panels(ceil_div(band.residual(), engine.narrow().cols)),
          panel_units(Scratch::round(engine.b_panel_units(depth, engine.narrow()))),
          turned(Scratch::round(depth * engine.narrow().cols)) {}
  };

  // The hidden units that a panel's channels see; begins on an even one.
  Pattern::Span seen(int64_t panel) const {
    const int64_t channel = panel * engine_.narrow().cols;
    const Pattern::Span span =
        band_.hidden_of(channel, std::min(band_.residual(), channel + engine_.narrow().cols));
    const int64_t begin = std::min(span.begin, span.end) / 2 * 2;
    return {begin, std::max(begin, span.end)};
  }

  void pack(int64_t panel, const float* stored, float* turned) const {  // [hidden unit][channel]
    const int64_t width = engine_.narrow().cols, channel = panel * width;
    const int64_t cols = std::min(width, band_.residual() - channel);
    const Pattern::Span span = seen(panel);
    std::fill_n(turned, span.size() * width, 0.0f);
    for (const BandTile& tile : band_.tiles()) {
      const int64_t first = std::max(channel, tile.begin);
      const int64_t last = std::min(channel + cols, tile.end);
      const int64_t unit = std::max(tile.hidden, span.begin);
      const int64_t stop = std::min(tile.hidden + tile.units, span.end);
      if (first >= last || unit >= stop) continue;
      transpose(stored + tile.offset + (first - tile.begin) * kBandTile + unit - tile.hidden,
                kBandTile, last - first, stop - unit,
                turned + (unit - span.begin) * width + first - channel, width);
    }
    engine_.pack_b(turned, width, span.size(), cols, engine_.narrow(),
                   panels_ + panel * cut_.panel_units);
  }

  const PanelEngine& engine_;
  const BandLayout& band_;
  Cut cut_;
  Unit* panels_;
};

// dT of both weights: `residual` (M, C) and `hidden` (M, H) are x and dy of FC1, dy and x of FC2.
// Each part of the rows has its own sums, of dT here and of db by the product that packs dy;
// finish() adds them up in order.
class Gradient {
 public:
  static int64_t workspace(const Context& context, const PanelEngine& engine,
                           const BandLayout& band, const RowCut& rows) {
    const Cut cut(engine, band, rows);
    return rows.parts * cut.part_floats + context.threads * cut.thread_units;
  }

  Gradient(const Context& context, const BandLayout& band, const RowCut& rows, ConstTensor residual,
           ConstTensor hidden, Scratch& scratch)
      : engine_(PanelEngine::get(context.precision)),
        band_(band),
        residual_(residual),
        hidden_(hidden),
        cut_(engine_, band, rows),
        parts_(scratch.take<float>(rows.parts * cut_.part_floats)),
        packed_(scratch.take<Unit>(context.threads * cut_.thread_units)) {}

  // A part's sums of dy.
  float* db(int64_t part) const { return parts_ + part * cut_.part_floats + cut_.db; }

  // Adds a chunk of rows to a part's share, the first of its rows first. hidden_packed:
  // rows.packed holds those of `hidden`.
  void add(const Rows& rows, bool hidden_packed, int64_t part, const Share& share, bool first,
           int thread) const {
    Unit* turned = packed_ + thread * cut_.thread_units;
    float* sums = parts_ + part * cut_.part_floats;
    const int64_t C = band_.residual(), H = band_.hidden();
    engine_.pack_a_transposed(residual_.data() + rows.row * C, C, C, rows.rows, turned,
                              engine_.a_block(C));
    const PanelEngine::Tile& wide = engine_.wide();
    // From a panel to the one beside it, and from a tile's panels to the next tile's.
    const int64_t beside = hidden_packed ? wide.cols : engine_.b_panel_units(rows.rows, wide);
    const int64_t next = hidden_packed ? rows.block : kBandTile / wide.cols * beside;
    const auto& tiles = band_.tiles();
    const auto groups = static_cast<int64_t>(ceil_div(std::ssize(tiles), kGroup));
    for (int64_t group = share.begin(groups); group < share.end(groups); ++group) {
      const auto begin = static_cast<size_t>(group * kGroup);
      const size_t end = std::min(tiles.size(), begin + kGroup);
      const int64_t hidden = tiles[begin].hidden;
      const int64_t units = tiles[end - 1].hidden + tiles[end - 1].units - hidden;
      PanelB panel = {rows.packed + hidden / kBlockUnits * rows.block, kBlockUnits, wide.cols};
      if (!hidden_packed) {
        Unit* packed = turned + cut_.turned_units;
        engine_.pack_b(hidden_.data() + rows.row * H + hidden, H, rows.rows, units, wide, packed);
        panel = {packed, wide.cols, wide.cols};
      }
      for (size_t t = begin; t < end; ++t, panel.units += next) {
        const BandTile& tile = tiles[t];
        const PackedA a = {turned + tile.begin * kBlockUnits, engine_.a_block(C), tile.window()};
        PanelB at = panel;
        for (int64_t col = 0; col < tile.units; col += wide.cols, at.units += beside) {
          engine_.multiply(wide, a, 0, engine_.units(rows.rows), at, sums + tile.offset + col,
                           kBandTile, !first);
        }
      }
    }
  }

  // stored and out += the sums of all parts, of dT and of dy; of stored, where the band keeps them.
  void finish(const Context& context, int64_t parts, float* stored, Tensor out) const {
    const auto count = static_cast<int64_t>(band_.tiles().size());
    parallel_for(context.threads, count, [&](int64_t t, int) {
      const BandTile& tile = band_.tiles()[static_cast<size_t>(t)];
      const int64_t n = tile.window() * kBandTile;
      float* total = parts_ + tile.offset;
      for (int64_t part = 1; part < parts; ++part)
        add_row(total, total + part * cut_.part_floats, n);
      for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
        const Pattern::Span span = band_.kept(tile, channel);
        const int64_t at = (channel - tile.begin) * kBandTile + span.begin;
        add_row(stored + tile.offset + at, total + at, span.size());
      }
    });
    for (int64_t part = 0; out && part < parts; ++part) add_row(out.data(), db(part), out.numel());
  }

 private:
  static constexpr int64_t kGroup = 4;  // tiles: longer pieces of rows of `hidden`

  struct Cut {
    int64_t db, part_floats;  // of sums and db
    int64_t turned_units, thread_units;
    Cut(const PanelEngine& engine, const BandLayout& band, const RowCut& rows)
        : db(Scratch::round(band.floats())),
          part_floats(db + Scratch::round(std::max(band.hidden(), band.residual()))),
          turned_units(Scratch::round(engine.a_units(band.residual(), rows.chunk))),
          thread_units(turned_units + Scratch::round(engine.b_units(rows.chunk, kGroup * kBandTile,
                                                                    engine.wide()))) {}
  };

  const PanelEngine& engine_;
  const BandLayout& band_;
  ConstTensor residual_, hidden_;
  Cut cut_;
  float* parts_;
  Unit* packed_;
};

// The first `units` lanes of a tile's two vectors, 0 beyond.
PYLLMC_INLINE void load_units(const float* from, int64_t units, f32x16 out[2]) {
  out[0] = units >= kLanes ? load16(from) : load_part(from, units, 0);
  out[1] = f32x16{};
  if (units > kLanes) out[1] = load_part(from + kLanes, units - kLanes, 0);
}

// A handful of rows, as decoding has: every weight is read once.
PYLLMC_SIMD void few_rows(const LinearForward& a, const BandLayout& band) {
  const int64_t M = a.x.dim(0), C = band.residual(), H = band.hidden();
  std::fill_n(a.y.data(), a.y.numel(), 0.0f);
  for (const BandTile& tile : band.tiles()) {
    for (int64_t row = 0; row < M; ++row) {
      const float* lines = a.w.data() + tile.offset;
      f32x16 hidden[2] = {};  // sums of FC1's outputs, or FC2's inputs
      if (!band.hidden_is_rows())
        load_units(a.x.data() + row * H + tile.hidden, tile.units, hidden);
      for (int64_t channel = tile.begin; channel < tile.end; ++channel, lines += kBandTile) {
        if (band.hidden_is_rows()) {
          const float x = a.x.data()[row * C + channel];
          hidden[0] += x * load16(lines);
          hidden[1] += x * load16(lines + kLanes);
        } else {
          a.y.data()[row * C + channel] +=
              sum16(hidden[0] * load16(lines) + hidden[1] * load16(lines + kLanes));
        }
      }
      if (!band.hidden_is_rows()) continue;
      float* y = a.y.data() + row * H + tile.hidden;
      store_part(y, hidden[0], std::min(kLanes, tile.units));
      if (tile.units > kLanes) store_part(y + kLanes, hidden[1], tile.units - kLanes);
    }
  }
  finish(a, a.y.data(), a.y.dim(1), 0, M, 0, a.y.dim(1));
}

// Of `most` packed rows of every thread.
int64_t rows_units(const Context& context, const PanelEngine& engine, int64_t most, int64_t K) {
  return context.threads * Scratch::round(engine.a_units(most, K));
}

template <class Product>
void forward(const Context& context, const LinearForward& a) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const int64_t M = a.x.dim(0), K = a.x.dim(1);
  const int64_t most = row_block(engine.units(K), M, context.threads);
  Scratch scratch(context.scratch("linear", band_workspace(context, M, *a.band, false)));
  const Product product(context, *a.band, a.w.data(), scratch);
  Unit* packed = scratch.take<Unit>(rows_units(context, engine, most, K));
  parallel_for(context.threads, ceil_div(M, most), [&](int64_t item, int thread) {
    const Rows rows = {item * most, std::min(most, M - item * most),
                       packed + thread * Scratch::round(engine.a_units(most, K)),
                       engine.a_block(most)};
    product.multiply(a.x, rows, {0, 1}, [&](auto... part) { finish(a, part...); });
  });
}

// Chunk by chunk of rows: a product, for dx, and the gradient.
template <class Product>
void backward(const Context& context, const LinearBackward& a) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const BandLayout& band = *a.band;
  const bool up = band.hidden_is_rows();
  const int64_t M = a.dy.dim(0), N = a.dy.dim(1);
  const RowCut cut(M);
  Scratch scratch(context.scratch("linear", band_workspace(context, M, band, true)));
  const Product product(context, band, a.w.data(), scratch);
  const Gradient gradient(context, band, cut, up ? a.x : a.dy, up ? a.dy : a.x, scratch);
  Unit* packed = scratch.take<Unit>(rows_units(context, engine, cut.chunk, N));
  // dy of FC1 is packed for the product; in fp32 the gradient reads that, not dy.
  const bool packed_once = up && context.precision == Precision::fp32;
  const int64_t shares = shares_of(cut.parts, context.threads);
  parallel_for(context.threads, cut.parts * shares, [&](int64_t item, int thread) {
    const int64_t part = item / shares;
    const Share share = {item % shares, shares};
    float* const db = share.index == 0 ? gradient.db(part) : nullptr;
    if (db) std::fill_n(db, N, 0.0f);
    const int64_t begin = part * cut.part, end = std::min(M, begin + cut.part);
    for (int64_t row = begin; row < end; row += cut.chunk) {
      const Rows rows = {row, std::min(cut.chunk, end - row),
                         packed + thread * Scratch::round(engine.a_units(cut.chunk, N)),
                         engine.a_block(cut.chunk), db};
      product.multiply(a.dy, rows, share, [&](auto... sums) { finish(a, sums...); });
      gradient.add(rows, packed_once, part, share, row == begin, thread);
    }
  });
  gradient.finish(context, cut.parts, a.dw.data(), a.db);
}

}  // namespace

void band_forward(const Context& context, const LinearForward& a) {
  if (a.x.dim(0) <= kFewRows) return few_rows(a, *a.band);
  a.band->hidden_is_rows() ? forward<Expand>(context, a) : forward<Contract>(context, a);
}

void band_backward(const Context& context, const LinearBackward& a) {
  a.band->hidden_is_rows() ? backward<Contract>(context, a) : backward<Expand>(context, a);
}

int64_t band_workspace(const Context& context, int64_t M, const BandLayout& band, bool gradients) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const auto block_units = [&](int64_t K) {
    return rows_units(context, engine, row_block(engine.units(K), M, context.threads), K);
  };
  const int64_t product = std::max(Expand::workspace(context, engine, band),
                                   Contract::workspace(context, engine, band));
  const int64_t H = band.hidden(), C = band.residual();
  const int64_t forward = std::max(block_units(C), block_units(H));
  if (!gradients) return product + forward;
  const RowCut rows(M);
  return product + std::max(forward, Gradient::workspace(context, engine, band, rows) +
                                         rows_units(context, engine, rows.chunk, std::max(H, C)));
}

}  // namespace pyllmc
