"""Charts of final losses: against density, and paired differences to the baseline."""

from __future__ import annotations

import math

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Family, against
from pyllmc.report.html.chart import Chart, Source, Trace, interval, names_axis, straight
from pyllmc.report.html.curves import numbers
from pyllmc.report.html.tables import table, text
from pyllmc.report.outcomes import Sample
from pyllmc.report.panels import Group, bandwidth_text, key_prefix
from pyllmc.report.rates import configurations
from pyllmc.report.repeats import dense_repeats
from pyllmc.report.verdicts import verdict_text


def density(source: Source, group: Group) -> Chart | None:
    """Final validation loss against the kept share of the matrices that have a pattern."""
    traces: list[Trace] = []
    rows = []
    for arm in (group.baseline, *group.arms):
        final = source.outcomes.final(arm.name)
        if final is None:
            continue
        label, share = source.labels[arm.name], 100 * arm.density
        told = [label, bandwidth_text(arm), md.percent(arm.density), md.loss(final.mean)]
        rows.append([*told, *_spread(final)] if source.several else told)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": text(label), "x": [share],
                "y": numbers([final.mean]), "marker": {"size": 11},
                "error_y": interval(final.half_width), "meta": source.looks[arm.name],
                "hovertemplate": "%{y:.4f} nats at %{x:.1f} % density",
            }
        )  # fmt: skip
        if final.n > 1:
            traces.append(source.dots(arm.name, [share] * final.n, numbers(final.values)))
    if len(rows) < 2:
        return None
    base = source.outcomes.final(group.baseline.name)
    header = ["Run", "Bandwidth", "Density", "Final val loss"]
    bars = "Bars are 95 % t intervals of the mean, small dots the seeds."
    return Chart(
        f"{key_prefix(group, source.experiment)}density",
        source.named("Final loss by density", group),
        "Density is the kept share of the matrices that have a pattern; the dashed line is "
        f"{source.labels[group.baseline.name]}. "
        + (bars if source.several else "One seed: no intervals."),
        traces,
        {
            "xaxis": {"title": {"text": "density (%)"}},
            "yaxis": {"title": {"text": "final validation loss (nats a token)"}},
            "shapes": [] if base is None else [straight("h", base.mean)],
        },
        table([*header, *(["SD", "95 % interval", "n"] if source.several else [])], rows),
    )


def forest(source: Source, group: Group) -> Chart | None:
    """Final loss minus the baseline's, paired by seed: one row an arm, with the interval and the
    verdict that the README has."""
    base = group.baseline.name
    same = {arm.name for arm, _ in dense_repeats(source.experiment)}
    compared = [arm.name for arm in group.arms if arm.name not in same]
    family = against(source.outcomes, compared, base) if compared else None
    traces: list[Trace] = []
    rows = []
    drawn = []
    for arm in group.arms:
        plain = source.outcomes.difference(arm.name, base)
        judged = family.comparisons.get(arm.name) if family else None
        nats = judged.nats if judged else plain.nats.mean if plain else None
        half = judged.half_width if judged else None
        if plain is None and judged is None:
            continue
        label = source.labels[arm.name]
        known = nats is not None and math.isfinite(nats)
        told = [label, md.signed(nats) if nats is not None else "-",
                f"{md.signed(plain.percent, 2)} %" if plain else "-"]  # fmt: skip
        if source.several:
            n = str(judged.seeds if judged else plain.nats.n if plain else 0)
            told += [n, _interval(nats, half), verdict_text(judged)]
        rows.append(told)
        if not known:
            continue
        drawn.append(label)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": text(label), "x": numbers([nats]),
                "y": [text(label)], "marker": {"size": 11, "symbol": "square"},
                "error_x": interval(half), "meta": source.looks[arm.name],
                "hovertemplate": "%{x:+.4f} nats",
            }
        )  # fmt: skip
        if plain is not None and plain.nats.n > 1:
            values = numbers(plain.nats.values)
            traces.append(source.dots(arm.name, values, [text(label)] * plain.nats.n))
    if not traces:
        return None
    header = ["Run", "Δ (nats)", "Δ (%)"]
    margin = source.experiment.margin
    return Chart(
        f"{key_prefix(group, source.experiment)}forest",
        f"Final loss minus that of {source.labels[base]}",
        _note(source, family),
        traces,
        {
            "xaxis": {"title": {"text": "Δ final loss (nats a token)"}},
            "yaxis": names_axis(drawn),
            "shapes": [straight("v"), *([] if margin is None else [straight("v", margin, "dot")])],
            "height": 110 + 34 * len(drawn),
        },
        table([*header, *(["n", "Interval", "Verdict"] if source.several else [])], rows),
    )


def rates(source: Source) -> Chart | None:
    """Final validation loss against the learning rate, a line a configuration; None where no
    configuration was run at several."""
    traces: list[Trace] = []
    rows = []
    several = [c for c in configurations(source.experiment) if len(c.arms) > 1]
    for configuration in several:
        finals = {
            rate: (arm, final)
            for rate, arm in configuration.arms.items()
            if (final := source.outcomes.final(arm.name)) is not None
        }
        for rate, (arm, final) in finals.items():
            told = [configuration.label, f"{rate:g}", md.loss(final.mean)]
            rows.append([*told, *_spread(final)] if source.several else told)
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": text(source.labels[arm.name]),
                    "x": [rate], "y": numbers([final.mean]), "marker": {"size": 9},
                    "error_y": interval(final.half_width), "meta": source.looks[arm.name],
                    "hovertemplate": "%{y:.4f} nats at %{x:g}",
                }
            )  # fmt: skip
        if len(finals) > 1:
            (arm, _), *_rest = finals.values()
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "hoverinfo": "skip", "x": list(finals),
                    "y": numbers([final.mean for _, final in finals.values()]),
                    "meta": {**source.looks[arm.name], "dash": "solid"},
                }
            )  # fmt: skip
    if not rows:
        return None
    shown = sorted({rate for configuration in several for rate in configuration.arms})
    bars = " Bars are 95 % t intervals of the mean." if source.several else ""
    return Chart(
        "rates",
        "Final loss against learning rate",
        f"One colour a configuration, one point a rate.{bars}",
        traces,
        {
            "xaxis": {
                "title": {"text": "learning rate"}, "type": "log", "tickvals": shown,
                "ticktext": [f"{rate:g}" for rate in shown],
            },
            "yaxis": {"title": {"text": "final validation loss (nats a token)"}},
        },
        table(["Configuration", "Learning rate", "Final val loss",
               *(["SD", "95 % interval", "n"] if source.several else [])], rows),
    )  # fmt: skip


def _note(source: Source, family: Family | None) -> str:
    parts = ["Paired by seed; left of the dashed line is a lower loss than the baseline's."]
    if not source.several:
        parts.append("One seed: no intervals.")
    elif family is not None and family.intervals is not None:
        parts.append(
            "Bars are simultaneous intervals (all true at once with probability "
            f"{family.intervals.level:.3g}), small dots the seeds; the method stands under the "
            "summary below."
        )
    if source.experiment.margin is not None:
        parts.append(f"The dotted line is the margin, {source.experiment.margin:g} nats.")
    return " ".join(parts)


def _interval(mean: float | None, half: float | None) -> str:
    if mean is None or half is None:
        return "-"
    return f"{mean - half:+.4f} to {mean + half:+.4f}"


def _spread(sample: Sample) -> list[str]:
    half = sample.half_width
    told = "-" if half is None else f"{sample.mean - half:.4f} to {sample.mean + half:.4f}"
    return ["-" if sample.sd is None else f"{sample.sd:.4f}", told, str(sample.n)]
