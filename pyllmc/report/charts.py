"""The report's charts, as PNG and SVG bytes that depend on nothing but the numbers.

Made to be read at the width of a README (about 830 pixels): 8 inches wide, 10 point text.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyllmc.report import markdown as md
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Outcomes, Spread
from pyllmc.report.panels import Group, Panel, bandwidth_text, distinct_labels, kind

# Okabe and Ito's colours, told apart by colour-blind readers; black is the baseline's.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
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


def loss_chart(panel: Panel, outcomes: Outcomes) -> dict[str, bytes]:
    """Validation loss by step, and beside it the difference to the baseline."""
    arms = (panel.baseline, *panel.arms)
    labels = {name: _plain(text) for name, text in distinct_labels(arms).items()}
    with _figure(3.7) as (figure, done):
        left, right = figure.subplots(1, 2, sharex=True)
        losses = {arm.name: outcomes.curve(arm.name) for arm in arms}
        gaps = {a.name: outcomes.gap(a.name, panel.baseline.name) for a in panel.arms}
        handles = [
            _curve(left, losses[arm.name], style)
            for arm, style in zip(arms, _styles(panel), strict=True)
        ]
        for arm, style in zip(panel.arms, _styles(panel)[1:], strict=True):
            _curve(right, gaps[arm.name], style)
        right.axhline(0, color="black", linewidth=1.6, zorder=1.5)
        _after_start(left, list(losses.values()), around_zero=False)
        _after_start(right, list(gaps.values()), around_zero=True)
        if all(low == high == 0 for gap in gaps.values() for _, low, high in gap.values()):
            _note(right, "every difference is exactly 0")
        _spread_note(right, outcomes, "mean and range")
        left.set_ylabel("validation loss (nats a token)")
        right.set_ylabel("difference to the baseline (nats)")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        _legend(figure, handles, list(labels.values()))
    return done


def density_chart(group: Group, outcomes: Outcomes) -> dict[str, bytes] | None:
    """Final loss against kept share, a line for each kind of band; None without a banded run."""
    base = outcomes.final(group.baseline.name)
    points: dict[str, list[tuple[Arm, float, float]]] = {}
    for arm in group.arms:
        final = outcomes.final(arm.name)
        if arm.sparse and final is not None:
            points.setdefault(kind(arm), []).append((arm, final.mean, final.sd or 0.0))
    if not points:
        return None
    with _figure(4.2) as (figure, done):
        axes = figure.subplots()
        handles: list[Any] = []
        names = []
        for i, (name, found) in enumerate(points.items()):
            found.sort(key=lambda point: point[0].density)
            colour = _colour(name, i)
            x = [100 * arm.density for arm, _, _ in found]
            y = [mean for _, mean, _ in found]
            if base is not None:
                axes.plot(
                    [x[-1], 100], [y[-1], base.mean], color=colour, linestyle=":", linewidth=1
                )
            errors = [sd for _, _, sd in found]
            bars = axes.errorbar(
                x, y, yerr=errors if any(errors) else None, color=colour, capsize=3,
                marker=_MARKERS[i % len(_MARKERS)], markersize=6,
            )  # fmt: skip
            handles.append(bars)
            names.append(f"band on {name}")
        if base is not None:
            line = axes.axhline(base.mean, color="black", linewidth=1.6, zorder=1.5)
            axes.errorbar(
                [100], [base.mean], yerr=base.sd or None, color="black", capsize=3, marker="D"
            )
            handles.append(line)
            names.append(_plain(group.baseline.label))
        _density_ticks(axes, [arm for found in points.values() for arm, _, _ in found])
        axes.set_xlabel("kept share of the banded matrices (bandwidth)")
        _spread_note(axes, outcomes, "mean and standard deviation")
        axes.set_ylabel("final validation loss (nats a token)")
        _legend(figure, handles, names)
    return done


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, dict[str, bytes]]]:
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


def _styles(panel: Panel) -> list[Mapping[str, Any]]:
    """Baseline black; then a colour a kind where kinds differ, else a colour an arm."""
    kinds = [kind(arm) for arm in panel.arms]
    by_kind = len(set(kinds)) == len(kinds)
    styles: list[Mapping[str, Any]] = [{"color": "black", "marker": "", "zorder": 2.5}]
    for i, name in enumerate(kinds):
        colour = _colour(name, i) if by_kind else _PALETTE[i % len(_PALETTE)]
        index = _KINDS.index(name) if by_kind and name in _KINDS else i
        styles.append({"color": colour, "marker": _MARKERS[index % len(_MARKERS)]})
    return styles


def _colour(name: str, i: int) -> str:
    return _PALETTE[(_KINDS.index(name) if name in _KINDS else i + len(_KINDS)) % len(_PALETTE)]


def _curve(axes: Axes, curve: Mapping[int, Spread], style: Mapping[str, Any]) -> Any:
    steps, spreads = list(curve), list(curve.values())
    # Markers on every point would hide a curve of hundreds of them.
    every = max(1, len(steps) // 12)
    (line,) = axes.plot(steps, [s.mean for s in spreads], markevery=every, **style)
    if any(s.low != s.high for s in spreads):
        low, high = [s.low for s in spreads], [s.high for s in spreads]
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, linewidth=0)
    return line


def _after_start(axes: Axes, curves: Sequence[Mapping[int, Spread]], *, around_zero: bool) -> None:
    """Fits the y-range to the later validations: the first one dwarfs every difference."""
    steps = sorted({step for curve in curves for step in curve})
    first = steps[1] if len(steps) > 2 else 0
    values = [
        value
        for curve in curves
        for step, spread in curve.items()
        for value in spread
        if step >= first and math.isfinite(value)
    ]
    if not values:
        _note(axes, "no finite values")
        return
    low, high = min(values), max(values)
    if around_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)


def _density_ticks(axes: Axes, arms: Sequence[Arm]) -> None:
    """Ticks at the densities that occur, each with its bandwidth; crowded ones are left out."""
    named: dict[float, str] = {100.0: "100 %\n(dense)"}
    for arm in arms:
        named.setdefault(100 * arm.density, f"{md.percent(arm.density)}\n({bandwidth_text(arm)})")
    kept: list[float] = []
    span = max(named) - min(named)
    for tick in sorted(named, reverse=True):
        if not kept or kept[-1] - tick > 0.09 * span:
            kept.append(tick)
    axes.set_xticks(kept, [named[tick] for tick in kept])


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the axes, in one row where about 90 characters are enough."""
    lengths = [len(label) + 8 for label in labels]
    columns = len(labels) if sum(lengths) <= 90 else max(1, 90 // max(lengths))
    # Labels that begin with "_" are dropped unless the handles are given with them.
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def _spread_note(axes: Axes, outcomes: Outcomes, what: str) -> None:
    """What a picture without its README must still say."""
    seeds = len(outcomes.experiment.seeds)
    text = "one seed: no error bars" if seeds < 2 else f"{what} of up to {seeds} seeds"
    axes.set_title(text, loc="right", fontsize=9, color="#666666")


def _note(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.6,
        text,
        transform=axes.transAxes,
        ha="center",
        color="#444444",
        bbox={"color": "white"},
    )


def _plain(text: str) -> str:
    """A label that is drawn as written: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
