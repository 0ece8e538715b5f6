// The three products of a banded weight, over the tiles of its layout. With T a tile [window][32]:
//   expand    out[m, h] = sum over the window of x[m, c] T[c, h]       FC1 forward, FC2's dx
//   contract  out[m, c] = sum over hidden h of x[m, h] T[c, h]         FC2 forward, FC1's dx
//   gradient  dT[c, h] += sum over m of r[m, c] u[m, h]                both weights
#include <algorithm>

#include "ops/linear/linear_tiles.h"

namespace pyllmc {
namespace {

// Adds, for `rows` packed rows, the products of units [begin, end) in steps that suit the caches.
void multiply_range(const PanelEngine& engine, const Unit* a, int64_t a_panel, int64_t rows,
                    int64_t begin, int64_t end, const Unit* b, int64_t cols, float* out,
                    int64_t ld) {
  for (int64_t unit = begin; unit < end; unit += kDepthUnits) {
    engine.multiply(a, a_panel, rows, unit, std::min(end, unit + kDepthUnits),
                    b + (unit - begin) * engine.tile_cols(), cols, out, ld, unit > begin);
  }
}

// Packs blocks of rows of x (M, K), one a work item, and hands them to `body(row, rows, packed)`.
template <class Body>
void each_row_block(const Context& context, const PanelEngine& engine, ConstTensor x, Unit* scratch,
                    const Body& body) {
  const int64_t M = x.dim(0), K = x.dim(1), block = row_block(engine.units(K));
  parallel_for(context.threads, ceil_div(M, block), [&](int64_t item, int thread) {
    const int64_t row = item * block, rows = std::min(block, M - row);
    Unit* packed = scratch + thread * Scratch::round(engine.a_units(block, K));
    engine.pack_a(x.data() + row * K, K, rows, K, packed);
    body(row, rows, packed);
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
  const auto& tiles = band.tiles();
  const int64_t width = engine.tile_cols(), H = band.hidden();
  Unit* b = scratch.take<Unit>(band.floats());
  parallel_for(context.threads, static_cast<int64_t>(tiles.size()), [&](int64_t t, int) {
    const BandTile& tile = tiles[static_cast<size_t>(t)];
    engine.pack_b(stored + tile.offset, kBandTile, tile.window(), kBandTile, b + tile.offset);
  });
  const int64_t a_panel = engine.a_panel_units(band.residual());
  each_row_block(context, engine, x, scratch.take<Unit>(0),
                 [&](int64_t row, int64_t rows, const Unit* packed) {
                   for (const BandTile& tile : tiles) {
                     const int64_t begin = engine.units(tile.begin), end = engine.units(tile.end);
                     for (int64_t col = 0; col < tile.units; col += width) {
                       const int64_t cols = std::min(width, tile.units - col);
                       float* at = out.data() + row * H + tile.hidden + col;
                       if (begin == end) {  // no channel reaches this tile
                         for (int64_t r = 0; r < rows; ++r) std::fill_n(at + r * H, cols, 0.0f);
                       }
                       multiply_range(
                           engine, packed, a_panel, rows, begin, end,
                           b + tile.offset + col / width * engine.b_panel_units(tile.window()),
                           cols, at, H);
                       finish(row, rows, tile.hidden + col, cols);
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

struct ContractCut {
  int64_t depth, panels, panel_units;
  ContractCut(const PanelEngine& engine, const BandLayout& band)
      : depth(band.widest(engine.tile_cols()) + 2),
        panels(ceil_div(band.residual(), engine.tile_cols())),
        panel_units(Scratch::round(engine.b_panel_units(depth))) {}
};

int64_t contract_workspace(const Context& context, const PanelEngine& engine,
                           const BandLayout& band) {
  const ContractCut cut(engine, band);
  return cut.panels * cut.panel_units +
         context.threads * Scratch::round(cut.depth * engine.tile_cols()) +
         row_block_floats(context, engine, band.hidden());
}

template <class Finish>
void contract(const Context& context, const BandLayout& band, const float* stored, ConstTensor x,
              Tensor out, const Finish& finish) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const ContractCut cut(engine, band);
  Scratch scratch(context, contract_workspace(context, engine, band));
  const int64_t width = engine.tile_cols(), C = band.residual();
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
    engine.pack_b(mine, width, span.size(), cols, b + panel * cut.panel_units);
  });
  const int64_t a_panel = engine.a_panel_units(band.hidden());
  each_row_block(context, engine, x, scratch.take<Unit>(0),
                 [&](int64_t row, int64_t rows, const Unit* packed) {
                   for (int64_t panel = 0; panel < cut.panels; ++panel) {
                     const int64_t channel = panel * width, cols = std::min(width, C - channel);
                     const Pattern::Span span = panel_span(band, channel, width);
                     float* at = out.data() + row * C + channel;
                     if (span.size() == 0) {
                       for (int64_t r = 0; r < rows; ++r) std::fill_n(at + r * C, cols, 0.0f);
                     }
                     multiply_range(engine, packed, a_panel, rows, engine.units(span.begin),
                                    engine.units(span.end), b + panel * cut.panel_units, cols, at,
                                    C);
                     finish(row, rows, channel, cols);
                   }
                 });
}

struct GradientCut {
  int64_t chunks, chunk_units, lines;
  GradientCut(const PanelEngine& engine, int64_t M, const BandLayout& band)
      : chunks(ceil_div(M, kChunkRows)),
        chunk_units(engine.a_units(band.residual(), kChunkRows)),
        lines(0) {
    for (const BandTile& tile : band.tiles()) {
      lines = std::max(lines, tile.window() + 2 * engine.tile_rows());
    }
  }
  int64_t thread_floats(const PanelEngine& engine) const {
    return Scratch::round(engine.b_units(kChunkRows, kBandTile)) +
           Scratch::round(lines * kBandTile);
  }
};

int64_t gradient_workspace(const Context& context, const PanelEngine& engine, int64_t M,
                           const BandLayout& band) {
  const GradientCut cut(engine, M, band);
  return Scratch::round(cut.chunks * cut.chunk_units) + context.threads * cut.thread_floats(engine);
}

// `residual` (M, C) and `hidden` (M, H) are x and dy of FC1, dy and x of FC2. A tile is one work
// item; the rows of whole panels that its window does not need are computed and dropped.
void gradient(const Context& context, const BandLayout& band, ConstTensor residual,
              ConstTensor hidden, float* stored) {
  const PanelEngine& engine = PanelEngine::get(context.precision);
  const int64_t M = residual.dim(0), C = band.residual(), H = band.hidden();
  const GradientCut cut(engine, M, band);
  Scratch scratch(context, gradient_workspace(context, engine, M, band));
  Unit* r = scratch.take<Unit>(cut.chunks * cut.chunk_units);
  float* own = scratch.take<float>(context.threads * cut.thread_floats(engine));
  parallel_for(context.threads, cut.chunks, [&](int64_t chunk, int) {
    const int64_t row = chunk * kChunkRows;
    engine.pack_a_transposed(residual.data() + row * C, C, C, std::min(kChunkRows, M - row),
                             r + chunk * cut.chunk_units);
  });
  const int64_t width = engine.tile_cols(), height = engine.tile_rows();
  const auto& tiles = band.tiles();
  parallel_for(context.threads, static_cast<int64_t>(tiles.size()), [&](int64_t t, int thread) {
    const BandTile& tile = tiles[static_cast<size_t>(t)];
    if (tile.window() == 0) return;
    auto* u = reinterpret_cast<Unit*>(own + thread * cut.thread_floats(engine));
    auto* sums =
        reinterpret_cast<float*>(u + Scratch::round(engine.b_units(kChunkRows, kBandTile)));
    const int64_t first_panel = tile.begin / height, first_row = first_panel * height;
    const int64_t lines = std::min(C, ceil_div(tile.end, height) * height) - first_row;
    for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
      const int64_t row = chunk * kChunkRows, rows = std::min(kChunkRows, M - row);
      const int64_t a_panel = engine.a_panel_units(rows);
      engine.pack_b(hidden.data() + row * H + tile.hidden, H, rows, tile.units, u);
      for (int64_t col = 0; col < tile.units; col += width) {
        engine.multiply(r + chunk * cut.chunk_units + first_panel * a_panel, a_panel, lines, 0,
                        engine.units(rows), u + col / width * engine.b_panel_units(rows),
                        std::min(width, tile.units - col), sums + col, kBandTile, chunk > 0);
      }
    }
    for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
      const Pattern::Span span = band.kept(tile, channel);
      const float* from = sums + (channel - first_row) * kBandTile;
      float* to = stored + tile.offset + (channel - tile.begin) * kBandTile;
      for (int64_t unit = span.begin; unit < span.end; ++unit) to[unit] += from[unit];
    }
  });
}

// A handful of rows, as decoding has: every weight is read once.
void few_rows(const LinearForward& a, const BandLayout& band) {
  const int64_t M = a.x.dim(0), C = band.residual(), H = band.hidden();
  std::fill_n(a.y.data(), a.y.numel(), 0.0f);
  for (const BandTile& tile : band.tiles()) {
    for (int64_t channel = tile.begin; channel < tile.end; ++channel) {
      const float* line = a.w.data() + tile.offset + (channel - tile.begin) * kBandTile;
      for (int64_t row = 0; row < M; ++row) {
        if (band.hidden_is_rows()) {
          float* y = a.y.data() + row * H + tile.hidden;
          const float x = a.x.data()[row * C + channel];
          for (int64_t unit = 0; unit < tile.units; ++unit) y[unit] += x * line[unit];
        } else {
          const float* x = a.x.data() + row * H + tile.hidden;
          float sum = 0;
          for (int64_t unit = 0; unit < tile.units; ++unit) sum += x[unit] * line[unit];
          a.y.data()[row * C + channel] += sum;
        }
      }
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
  gradient(context, band, up ? a.x : a.dy, up ? a.dy : a.x, a.dw.data());
  if (a.db) {
    constexpr int64_t kColumns = 64;
    const int64_t M = a.dy.dim(0), N = a.dy.dim(1);
    parallel_for(context.threads, ceil_div(N, kColumns), [&](int64_t block, int) {
      const int64_t begin = block * kColumns;
      add_column_sums(a.dy.data(), M, N, begin, std::min(N, begin + kColumns), a.db.data());
    });
  }
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
