"""Charts of the loss against something other than steps and density; drawn like the others."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from pyllmc.report.comparisons import Family, Verdict
from pyllmc.report.cost import against_flops, against_time, differs
from pyllmc.report.drawing import (
    MARKERS,
    PALETTE,
    curve,
    figure_of,
    frame,
    legend,
    plain,
    spread_note,
    styles_of,
)
from pyllmc.report.excerpt import after_start
from pyllmc.report.fit import gap_curve, subset_curve
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, Panel, distinct_labels
from pyllmc.report.rates import Tuning

_VERDICT_COLOURS = {
    Verdict.BETTER: "#009E73",
    Verdict.WORSE: "#D55E00",
    Verdict.WORSE_WITHIN: "#D55E00",
}


def fit_chart(panel: Panel, outcomes: Outcomes) -> dict[str, bytes] | None:
    """Loss on the fixed part of the training data by step, and beside it the gap to validation;
    None where no run logged it."""
    arms = (panel.baseline, *panel.arms)
    losses = {arm.name: subset_curve(outcomes, arm.name) for arm in arms}
    if not any(losses[arm.name] for arm in panel.arms):
        return None
    labels = distinct_labels(arms)
    with figure_of(3.7) as (figure, done):
        left, right = figure.subplots(1, 2, sharex=True)
        gaps = {arm.name: gap_curve(outcomes, arm.name) for arm in arms}
        styles = styles_of(panel)
        handles = [curve(left, losses[a.name], s) for a, s in zip(arms, styles, strict=True)]
        for arm, style in zip(arms, styles, strict=True):
            curve(right, gaps[arm.name], style)
        frame(left, losses.values(), around_zero=False)
        frame(right, gaps.values(), around_zero=True)
        right.axhline(0, color="#888888", linewidth=1, zorder=1.5)
        spread_note(right, outcomes, "mean and range")
        left.set_ylabel("loss on the training part")
        right.set_ylabel("validation − training part")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        legend(figure, handles, [plain(labels[arm.name]) for arm in arms])
    return done


def cost_chart(group: Group, outcomes: Outcomes) -> dict[str, bytes] | None:
    """Validation loss against executed training FLOPs and against seconds of training, each where
    the runs differ in it; None where neither does."""
    arms = (group.baseline, *group.arms)
    labels = distinct_labels(arms)
    flops = {a.name: against_flops(outcomes.experiment, outcomes, a) for a in arms}
    seconds = {a.name: against_time(outcomes, a) for a in arms}
    shown = [
        (what, curves)
        for what, curves in (
            ("executed training FLOPs", flops), ("seconds of training", seconds),
        )
        if differs(curves)
    ]  # fmt: skip
    if not shown:
        return None
    with figure_of(4.2) as (figure, done):
        handles, names = [], []
        for i, axes in enumerate(figure.subplots(1, len(shown), squeeze=False)[0]):
            what, curves = shown[i]
            for j, arm in enumerate(arms):
                points = curves[arm.name]
                if not points:
                    continue
                colour, line = _line(j)
                (handle,) = axes.plot(
                    list(points), list(points.values()), color=colour, linestyle=line,
                    marker="." if j else "D", zorder=3 if j == 0 else 2,
                )  # fmt: skip
                if plain(labels[arm.name]) not in names:
                    handles.append(handle)
                    names.append(plain(labels[arm.name]))
            drawn = [(list(c), list(c.values()), list(c.values())) for c in curves.values() if c]
            axes.set_ylim(after_start(drawn))
            axes.set_xlabel(what)
            axes.set_xlim(left=0)
            axes.set_ylabel("validation loss (nats a token)")
        spread_note(axes, outcomes, "mean")
        legend(figure, handles, names)
    return done


def rate_chart(found: Tuning | None, outcomes: Outcomes) -> dict[str, bytes] | None:
    """Final validation loss against the learning rate, a line a configuration."""
    if found is None:
        return None
    everyone = (found.baseline, *(t.configuration for t in found.others), *found.unfinished)
    with figure_of(4.2) as (figure, done):
        axes = figure.subplots()
        handles, names = [], []
        for j, configuration in enumerate(everyone):
            points = {
                rate: final
                for rate, arm in configuration.arms.items()
                if (final := outcomes.final(arm.name)) is not None
            }
            if not points:
                continue
            colour, line = _line(j)
            errors = [final.sd or 0.0 for final in points.values()]
            handles.append(
                axes.errorbar(
                    # Side by side, or the bars would hide each other.
                    [rate * 1.012 ** (j - len(everyone) / 2) for rate in points],
                    [final.mean for final in points.values()],
                    yerr=errors if any(errors) else None, capsize=2, elinewidth=1,
                    color=colour, linestyle=line,
                    marker="D" if j == 0 else MARKERS[(j - 1) % len(MARKERS)],
                    zorder=3 if j == 0 else 2,
                )
            )  # fmt: skip
            names.append(plain(configuration.label))
        axes.set_xscale("log")
        axes.set_xticks(found.rates)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("final validation loss (nats a token)")
        spread_note(axes, outcomes, "mean and standard deviation")
        legend(figure, handles, names)
    return done


def difference_chart(group: Group, family: Family | None) -> dict[str, bytes] | None:
    """Every difference to the baseline with its simultaneous interval; None without intervals."""
    if family is None or family.intervals is None:
        return None
    labels = distinct_labels((group.baseline, *group.arms))
    shown = {n: c for n, c in family.comparisons.items() if c.half_width is not None}
    with figure_of(1.2 + 0.32 * len(shown)) as (figure, done):
        axes = figure.subplots()
        for row, compared in enumerate(shown.values()):
            axes.errorbar(
                [compared.estimate or 0.0], [row], xerr=[compared.half_width or 0.0],
                fmt="o", capsize=3,
                color=_VERDICT_COLOURS.get(compared.verdict, "#666666"),
            )  # fmt: skip
        axes.axvline(0, color="black", linewidth=1.6, zorder=1.5)
        axes.set_yticks(range(len(shown)), [plain(labels[name]) for name in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"final validation loss − {plain(labels[group.baseline.name])} (nats a token), "
            f"intervals that hold together at {100 * family.intervals.level:.3g} %"
        )
        axes.set_title(
            f"green: shown better, orange: shown worse, grey: neither; {family.seeds} seeds",
            loc="right", fontsize=9, color="#666666",
        )  # fmt: skip
    return done


def _line(j: int) -> tuple[str, str]:
    """Colour and style of the j-th line, the baseline first; where there are more lines than
    colours the style tells the rounds apart."""
    if j == 0:
        return "black", "-"
    return PALETTE[(j - 1) % len(PALETTE)], ("-", "--", ":")[(j - 1) // len(PALETTE) % 3]
