"""What every chart of the report is drawn with: figure, colours, curves, legend.

Made to be read at the width of a README (about 830 pixels): 8 inches wide, 10 point text.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyllmc.report.excerpt import after_start
from pyllmc.report.outcomes import Outcomes, Spread
from pyllmc.report.panels import Panel, kind

# Okabe and Ito's colours, told apart by colour-blind readers; black is the baseline's.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_KINDS = ("FC1", "FC2", "FC1+FC2")
_STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "svg.fonttype": "path",
    # Element ids are hashes of the content with this salt, which is random when not given.
    "svg.hashsalt": "pyllmc",
}


@contextmanager
def figure_of(height: float) -> Iterator[tuple[Figure, dict[str, bytes]]]:
    """A figure to draw on; when the block ends the dict holds its "png" and "svg"."""
    done: dict[str, bytes] = {}
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        for key, value in _STYLE.items():
            mpl.rcParams[key] = value
        # A label in a script that the font lacks is drawn as boxes; its table has the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(8, height), dpi=200, layout="constrained")
        yield figure, done
        # Without these, versions and the time of day would be written into the files.
        for kind_, metadata in (
            ("png", {"Software": None}),
            ("svg", {"Date": None, "Creator": None}),
        ):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind_, metadata=metadata)
            done[kind_] = stream.getvalue()


def styles_of(panel: Panel) -> list[Mapping[str, Any]]:
    """Baseline black; then a colour a kind where kinds differ, else a colour an arm."""
    kinds = [kind(arm) for arm in panel.arms]
    by_kind = len(set(kinds)) == len(kinds)
    styles: list[Mapping[str, Any]] = [{"color": "black", "marker": "", "zorder": 2.5}]
    for i, name in enumerate(kinds):
        colour = colour_of(name, i) if by_kind else PALETTE[i % len(PALETTE)]
        index = _KINDS.index(name) if by_kind and name in _KINDS else i
        styles.append({"color": colour, "marker": MARKERS[index % len(MARKERS)]})
    return styles


def colour_of(name: str, i: int) -> str:
    return PALETTE[(_KINDS.index(name) if name in _KINDS else i + len(_KINDS)) % len(PALETTE)]


def curve(axes: Axes, curve: Mapping[int, Spread], style: Mapping[str, Any]) -> Any:
    steps, spreads = list(curve), list(curve.values())
    # Markers on every point would hide a curve of hundreds of them.
    every = max(1, len(steps) // 12)
    (line,) = axes.plot(steps, [s.mean for s in spreads], markevery=every, **style)
    if any(s.low != s.high for s in spreads):
        low, high = [s.low for s in spreads], [s.high for s in spreads]
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, linewidth=0)
    return line


def frame(axes: Axes, curves: Iterable[Mapping[int, Spread]], *, around_zero: bool) -> None:
    """Fits the y-range to the part after the start."""
    spreads = [(list(c), [s.low for s in c.values()], [s.high for s in c.values()]) for c in curves]
    found = after_start(spreads, around_zero=around_zero)
    if found is None:
        note(axes, "no finite values")
    else:
        axes.set_ylim(*found)


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the axes, in one row where about 90 characters are enough."""
    lengths = [len(label) + 8 for label in labels]
    columns = len(labels) if sum(lengths) <= 90 else max(1, 90 // max(lengths))
    # Labels that begin with "_" are dropped unless the handles are given with them.
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def spread_note(axes: Axes, outcomes: Outcomes, what: str) -> None:
    """What a picture without its README must still say."""
    seeds = len(outcomes.experiment.seeds)
    text = "one seed: no error bars" if seeds < 2 else f"{what} of up to {seeds} seeds"
    axes.set_title(text, loc="right", fontsize=9, color="#666666")


def note(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.6,
        text,
        transform=axes.transAxes,
        ha="center",
        color="#444444",
        bbox={"color": "white"},
    )


def plain(text: str) -> str:
    """A label that is drawn as written: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
