// The three products of a banded weight, over the tiles of its layout. With T a tile [window][32]:
//   expand    out[m, h] = sum over the window of x[m, c] T[c, h]       FC1 forward, FC2's dx
//   contract  out[m, c] = sum over hidden h of x[m, h] T[c, h]         FC2 forward, FC1's dx
//   gradient  dT[c, h] += sum over m of r[m, c] u[m, h]                both weights
#include <algorithm>

#include "ops/linear/linear_tiles.h"

namespace pyllmc {
namespace {

// Packs blocks of rows of x (M, K), one a work item, and hands them to
// `body(row, rows, packed, a_block)`.
template <class Body>
void each_row_block(const Context& context, const PanelEngine& engine, ConstTensor x, Unit* scratch,
                    const Body& body) {
  const int64_t M = x.dim(0), K = x.dim(1), block = row_block(engine.units(K));
  parallel_for(context.threads, ceil_div(M, block), [&](int64_t item, int thread) {
    const int64_t row = item * block, rows = std::min(block, M - row);
    Unit* packed = scratch + thread * Scratch::round(engine.a_units(block, K));
    engine.pack_a(x.data() + row * K, K, rows, K, packed, engine.a_block(block));
    body(row, rows, packed, engine.a_block(block));
  });
}
int64_t row_block_floats(const Context& context, const PanelEngine& engine, int64_t K) {
  return context.threads * Scratch::round(engine.a_units(row_block(engine.units(K)), K));
}

int64_t expand_workspace(const Context& context, const PanelEngine& engine,
                         const BandLayout& band) {
  return Scratch::round(band.floats()) + row_block_floats(context, engine, band.residual());
}

template <class Finish>
void expand(const Context& context, const BandLayout& band, const float* stored, ConstTensor x,
            Tensor out, const Finish& finish) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  Scratch scratch(context, expand_workspace(context, engine, band));
  const PanelEngine::Tile& tile = engine.wide();
  const auto& tiles = band.tiles();
  const int64_t H = band.hidden();
  Unit* b = scratch.take<Unit>(band.floats());
  parallel_for(context.threads, static_cast<int64_t>(tiles.size()), [&](int64_t t, int) {
    const BandTile& at = tiles[static_cast<size_t>(t)];
    engine.pack_b(stored + at.offset, kBandTile, at.window(), kBandTile, tile, b + at.offset);
  });
  each_row_block(
      context, engine, x, scratch.take<Unit>(0),
      [&](int64_t first, int64_t rows, const Unit* packed, int64_t a_block) {
        for (const BandTile& at : tiles) {
          for (int64_t col = 0; col < at.units; col += tile.cols) {
            const int64_t cols = std::min(tile.cols, at.units - col);
            const Unit* panel =
                b + at.offset + col / tile.cols * engine.b_panel_units(at.window(), tile);
            engine.multiply(
                tile, {packed, a_block, rows}, engine.units(at.begin), engine.units(at.end),
                {panel, tile.cols, cols}, out.data() + first * H + at.hidden + col, H, false,
                [&](int64_t row, int64_t n) { finish(first + row, n, at.hidden + col, cols); });
          }
        }
      });
}

// A panel of `width` residual channels: the hidden units that they see, begin on an even one.
Pattern::Span panel_span(const BandLayout& band, int64_t channel, int64_t width) {
  const Pattern::Span span = band.hidden_of(channel, std::min(band.residual(), channel + width));
  const int64_t begin = std::min(span.begin, span.end) / 2 * 2;
  return {begin, std::max(begin, span.end)};
}

// Narrow panels, because a panel's span is as much longer than a channel's as the panel is wide.
struct ContractCut {
  int64_t depth, panels, panel_units;
  ContractCut(const PanelEngine& engine, const BandLayout& band)
      : depth(band.widest(engine.narrow().cols) + 2),
        panels(ceil_div(band.residual(), engine.narrow().cols)),
        panel_units(Scratch::round(engine.b_panel_units(depth, engine.narrow()))) {}
};

int64_t contract_workspace(const Context& context, const PanelEngine& engine,
                           const BandLayout& band) {
  const ContractCut cut(engine, band);
  return cut.panels * cut.panel_units +
         context.threads * Scratch::round(cut.depth * engine.narrow().cols) +
         row_block_floats(context, engine, band.hidden());
}

template <class Finish>
void contract(const Context& context, const BandLayout& band, const float* stored, ConstTensor x,
              Tensor out, const Finish& finish) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const ContractCut cut(engine, band);
  Scratch scratch(context, contract_workspace(context, engine, band));
  const PanelEngine::Tile& narrow = engine.narrow();
  const int64_t width = narrow.cols, C = band.residual();
  Unit* b = scratch.take<Unit>(cut.panels * cut.panel_units);
  float* turned = scratch.take<float>(context.threads * Scratch::round(cut.depth * width));
  parallel_for(context.threads, cut.panels, [&](int64_t panel, int thread) {
    const int64_t channel = panel * width, cols = std::min(width, C - channel);
    const Pattern::Span span = panel_span(band, channel, width);
    float* mine = turned + thread * Scratch::round(cut.depth * width);  // [hidden unit][channel]
    std::fill_n(mine, span.size() * width, 0.0f);
    for (const BandTile& tile : band.tiles()) {
      const int64_t first = std::max(channel, tile.begin);
      const int64_t last = std::min(channel + cols, tile.end);
      const int64_t unit = std::max(tile.hidden, span.begin);
      const int64_t stop = std::min(tile.hidden + tile.units, span.end);
      if (first >= last || unit >= stop) continue;
      transpose(stored + tile.offset + (first - tile.begin) * kBandTile + unit - tile.hidden,
                kBandTile, last - first, stop - unit,
                mine + (unit - span.begin) * width + first - channel, width);
    }
    engine.pack_b(mine, width, span.size(), cols, narrow, b + panel * cut.panel_units);
  });
  each_row_block(context, engine, x, scratch.take<Unit>(0),
                 [&](int64_t first, int64_t rows, const Unit* packed, int64_t a_block) {
                   for (int64_t panel = 0; panel < cut.panels; ++panel) {
                     const int64_t channel = panel * width, cols = std::min(width, C - channel);
                     const Pattern::Span span = panel_span(band, channel, width);
                     engine.multiply(
                         narrow, {packed, a_block, rows}, engine.units(span.begin),
                         engine.units(span.end), {b + panel * cut.panel_units, width, cols},
                         out.data() + first * C + channel, C, false,
                         [&](int64_t row, int64_t n) { finish(first + row, n, channel, cols); });
                   }
                 });
}

constexpr int64_t kItemTiles = 4;  // of a work item, whose rows of u are then longer pieces

struct GradientCut {
  int64_t chunks, chunk_units, lines;
  GradientCut(const PanelEngine& engine, int64_t M, const BandLayout& band)
      : chunks(ceil_div(M, kChunkRows)),
        chunk_units(engine.a_units(band.residual(), kChunkRows)),
        lines(0) {
    for (const BandTile& tile : band.tiles()) {
      lines = std::max(lines, tile.window());
    }
  }
  int64_t sums() const { return lines * kBandTile; }  // floats of a tile
  int64_t thread_floats(const PanelEngine& engine) const {
    return Scratch::round(engine.b_units(kChunkRows, kItemTiles * kBandTile, engine.wide())) +
           Scratch::round(kItemTiles * sums());
  }
};

int64_t gradient_workspace(const Context& context, const PanelEngine& engine, int64_t M,
                           const BandLayout& band) {
  const GradientCut cut(engine, M, band);
  return Scratch::round(cut.chunks * cut.chunk_units) +
         Scratch::round(cut.chunks * band.residual()) + context.threads * cut.thread_floats(engine);
}

// dT of both weights, and db, the sums of dy: `residual` (M, C) and `hidden` (M, H) are x and dy of
// FC1, dy and x of FC2. A work item is a few tiles.
void gradient(const Context& context, const BandLayout& band, ConstTensor residual,
              ConstTensor hidden, float* stored, float* db) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const int64_t M = residual.dim(0), C = band.residual(), H = band.hidden();
  const GradientCut cut(engine, M, band);
  Scratch scratch(context, gradient_workspace(context, engine, M, band));
  Unit* r = scratch.take<Unit>(cut.chunks * cut.chunk_units);
  float* chunk_sums = scratch.take<float>(cut.chunks * C);
  float* own = scratch.take<float>(context.threads * cut.thread_floats(engine));
  float* residual_db = band.hidden_is_rows() ? nullptr : db;
  float* hidden_db = band.hidden_is_rows() ? db : nullptr;
  parallel_for(context.threads, cut.chunks, [&](int64_t chunk, int) {
    const int64_t row = chunk * kChunkRows, rows = std::min(kChunkRows, M - row);
    const float* from = residual.data() + row * C;
    engine.pack_a_transposed(from, C, C, rows, r + chunk * cut.chunk_units, engine.a_block(C));
    if (!residual_db) return;
    std::fill_n(chunk_sums + chunk * C, C, 0.0f);
    add_column_sums(from, rows, C, chunk_sums + chunk * C);
  });
  if (residual_db) add_column_sums(chunk_sums, cut.chunks, C, residual_db);

  const PanelEngine::Tile& wide = engine.wide();
  const auto& tiles = band.tiles();
  const auto count = static_cast<int64_t>(tiles.size());
  parallel_for(context.threads, ceil_div(count, kItemTiles), [&](int64_t item, int thread) {
    const BandTile* first = &tiles[static_cast<size_t>(item * kItemTiles)];
    const BandTile* last = tiles.data() + std::min(count, (item + 1) * kItemTiles);
    const int64_t units = last[-1].hidden + last[-1].units - first->hidden;
    auto* u = reinterpret_cast<Unit*>(own + thread * cut.thread_floats(engine));
    auto* sums = reinterpret_cast<float*>(
        u + Scratch::round(engine.b_units(kChunkRows, kItemTiles * kBandTile, wide)));
    for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      const int64_t row = chunk * kChunkRows, rows = std::min(kChunkRows, M - row);
      engine.pack_b(hidden.data() + row * H + first->hidden, H, rows, units, wide, u,
                    hidden_db ? hidden_db + first->hidden : nullptr);
      for (const BandTile* tile = first; tile < last; ++tile) {
        if (tile->window() == 0) continue;
        for (int64_t col = 0; col < tile->units; col += wide.cols) {
          const int64_t panel = (tile->hidden - first->hidden + col) / wide.cols;
          engine.multiply(wide,
                          {r + chunk * cut.chunk_units + tile->begin * kBlockUnits,
                           engine.a_block(C), tile->window()},
                          0, engine.units(rows),
                          {u + panel * engine.b_panel_units(rows, wide), wide.cols,
                           std::min(wide.cols, tile->units - col)},
                          sums + (tile - first) * cut.sums() + col, kBandTile, chunk > 0);
        }
      }
    }
    for (const BandTile* tile = first; tile < last; ++tile) {
      for (int64_t channel = tile->begin; channel < tile->end; ++channel) {
        const Pattern::Span span = band.kept(*tile, channel);
        const int64_t at = (channel - tile->begin) * kBandTile;
        const float* from = sums + (tile - first) * cut.sums() + at;
        float* to = stored + tile->offset + at;
        for (int64_t unit = span.begin; unit < span.end; ++unit) to[unit] += from[unit];
      }
    }
  });
}

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
  finish_tile(a, 0, M, 0, a.y.dim(1));
}

}  // namespace

void band_forward(const Context& context, const LinearForward& a) {
  const BandLayout& band = *a.band;
  if (a.x.dim(0) <= kFewRows) return few_rows(a, band);
  const auto finish = [&](int64_t row, int64_t rows, int64_t col, int64_t cols) {
    finish_tile(a, row, rows, col, cols);
  };
  if (band.hidden_is_rows()) {
    expand(context, band, a.w.data(), a.x, a.y, finish);
  } else {
    contract(context, band, a.w.data(), a.x, a.y, finish);
  }
}

void band_backward(const Context& context, const LinearBackward& a) {
  const BandLayout& band = *a.band;
  const bool up = band.hidden_is_rows();
  gradient(context, band, up ? a.x : a.dy, up ? a.dy : a.x, a.dw.data(),
           a.db ? a.db.data() : nullptr);
  const auto finish = [&](int64_t row, int64_t rows, int64_t col, int64_t cols) {
    finish_tile(a, row, rows, col, cols);
  };
  if (up) {
    contract(context, band, a.w.data(), a.dy, a.dx, finish);
  } else {
    expand(context, band, a.w.data(), a.dy, a.dx, finish);
  }
}

int64_t band_workspace(const Context& context, int64_t M, const BandLayout& band, bool gradients) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const int64_t products =
      std::max(expand_workspace(context, engine, band), contract_workspace(context, engine, band));
  return gradients ? std::max(products, gradient_workspace(context, engine, M, band)) : products;
}

}  // namespace pyllmc
