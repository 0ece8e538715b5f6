"""The report's charts, as PNG and SVG bytes that depend on nothing but the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyllmc.report import markdown as md
from pyllmc.report.drawing import (
    MARKERS,
    colour_of,
    curve,
    figure_of,
    frame,
    legend,
    note,
    plain,
    spread_note,
    styles_of,
)
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, Panel, bandwidth_text, distinct_labels, is_control, kind


def loss_chart(panel: Panel, outcomes: Outcomes) -> dict[str, bytes]:
    """Validation loss by step, and beside it the difference to the baseline."""
    arms = (panel.baseline, *panel.arms)
    labels = {name: plain(text) for name, text in distinct_labels(arms).items()}
    with figure_of(3.7) as (figure, done):
        left, right = figure.subplots(1, 2, sharex=True)
        losses = {arm.name: outcomes.curve(arm.name) for arm in arms}
        gaps = {a.name: outcomes.gap(a.name, panel.baseline.name) for a in panel.arms}
        handles = [
            curve(left, losses[arm.name], style)
            for arm, style in zip(arms, styles_of(panel), strict=True)
        ]
        for arm, style in zip(panel.arms, styles_of(panel)[1:], strict=True):
            curve(right, gaps[arm.name], style)
        right.axhline(0, color="black", linewidth=1.6, zorder=1.5)
        frame(left, losses.values(), around_zero=False)
        frame(right, gaps.values(), around_zero=True)
        if all(low == high == 0 for gap in gaps.values() for _, low, high in gap.values()):
            note(right, "every difference is exactly 0")
        spread_note(right, outcomes, "mean and range")
        left.set_ylabel("validation loss (nats a token)")
        right.set_ylabel("difference to the baseline (nats)")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        legend(figure, handles, list(labels.values()))
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
    with figure_of(4.2) as (figure, done):
        axes = figure.subplots()
        handles: list[Any] = []
        names = []
        for i, (name, found) in enumerate(points.items()):
            found.sort(key=lambda point: point[0].density)
            colour = colour_of(name, i)
            x = [100 * arm.density for arm, _, _ in found]
            y = [mean for _, mean, _ in found]
            if base is not None:
                axes.plot(
                    [x[-1], 100], [y[-1], base.mean], color=colour, linestyle=":", linewidth=1
                )
            errors = [sd for _, _, sd in found]
            bars = axes.errorbar(
                x, y, yerr=errors if any(errors) else None, color=colour, capsize=3,
                marker=MARKERS[i % len(MARKERS)], markersize=6,
            )  # fmt: skip
            handles.append(bars)
            names.append(name if is_control(found[0][0]) else f"band on {name}")
        if base is not None:
            line = axes.axhline(base.mean, color="black", linewidth=1.6, zorder=1.5)
            axes.errorbar(
                [100], [base.mean], yerr=base.sd or None, color="black", capsize=3, marker="D"
            )
            handles.append(line)
            labels = distinct_labels((group.baseline, *group.arms))
            names.append(plain(labels[group.baseline.name]))
        _density_ticks(axes, [arm for found in points.values() for arm, _, _ in found])
        axes.set_xlabel("kept share of the banded matrices (bandwidth)")
        spread_note(axes, outcomes, "mean and standard deviation")
        axes.set_ylabel("final validation loss (nats a token)")
        legend(figure, handles, names)
    return done


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
