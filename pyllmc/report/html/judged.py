"""Charts of what is judged beyond differences at one rate: tuned configurations, and controls."""

from __future__ import annotations

import math

from pyllmc.report import controls_text, rates_text
from pyllmc.report.comparisons import Comparison
from pyllmc.report.controls import Controls
from pyllmc.report.html.chart import Chart, Source, Trace, interval, names_axis, straight
from pyllmc.report.html.curves import numbers
from pyllmc.report.html.tables import table, text
from pyllmc.report.rates import Tuned, Tuning

# A control's row, in a few words.
_AGAINST = {
    "random": "random places",
    "block": "blocks",
    "narrower": "narrower dense",
    "low-rank": "low rank",
    "band-permuted-residual": "locality broken",
    "init_scale": "unscaled start",
    "wider": "dense, equal weights",
    "band-permuted-hidden": "A/A: renamed",
}


def tuned(source: Source, found: Tuning | None) -> Chart | None:
    """Differences to the baseline, at equal rates and with every configuration at its best rate;
    None where nothing was tuned."""
    if found is None:
        return None
    traces: list[Trace] = []
    drawn = []
    for one in found.others:
        label = one.configuration.label
        rows = _at_equal_rates(source, one)
        if one.tuned is not None:
            arm = one.configuration.arms[one.rate].name
            hover = f"%{{x:+.4f}} nats, {one.rate:g} against {found.baseline_rate:g}"
            rows += _judged(source, arm, label, one.tuned.gaps, one.tuned.compared, hover)
        drawn += [label] if rows else []
        traces += rows
    if not traces:
        return None
    base = found.baseline.label
    what = "test" if found.on_test else "validation"
    return Chart(
        "tuned",
        f"Tuned: {what} loss minus that of {base}, each at its best rate",
        "Squares: each configuration at its own best learning rate. Open circles: at equal rates, "
        f"on the validation loss.{_bars(source, 'squares')} What lies left at one rate and not "
        "when tuned is faster optimization at an untuned rate.",
        traces,
        _layout(source, drawn),
        table(*rates_text.table_of(found, len(source.experiment.seeds))),
    )


def controls(source: Source, made: Controls | None, what: str) -> Chart | None:
    """The band minus each of its controls, and below them the A/A check; None without any. `what`
    names the loss."""
    if made is None:
        return None
    everyone = (*made.found, *made.relabelled)
    several = len({control.band.name for control in everyone}) > 1
    traces: list[Trace] = []
    drawn = []
    for control in everyone:
        label = _AGAINST[control.question]
        label += f" ({made.labels[control.band.name]})" if several else ""
        rows = _judged(
            source, control.band.name, label, made.gaps.get(control.key, ()),
            made.compared(control), "%{x:+.4f} nats",
        )  # fmt: skip
        drawn += [label] if rows else []
        traces += rows
    if not traces:
        return None
    names = "" if several else f" ({made.labels[everyone[0].band.name]})"
    return Chart(
        "controls",
        f"Controls: the band{names} minus what it is set against",
        controls_text.meaning(made, what) + _bars(source, "squares"),
        traces,
        _layout(source, drawn),
        table(*controls_text.table_of(made, everyone, len(source.experiment.seeds))),
    )


def _at_equal_rates(source: Source, one: Tuned) -> list[Trace]:
    label = text(one.configuration.label)
    return [
        {
            "type": "scatter", "mode": "markers", "name": label, "x": numbers([difference.nats]),
            "y": [label], "marker": {"size": 8, "symbol": "circle-open", "line": {"width": 2}},
            "meta": source.looks[one.configuration.arms[rate].name],
            "hovertemplate": f"%{{x:+.4f}} nats, both at {rate:g}",
        }
        for rate, difference in one.single.items()
    ]  # fmt: skip


def _judged(
    source: Source, arm: str, label: str, gaps: tuple[float, ...], compared: Comparison | None,
    hover: str,
) -> list[Trace]:  # fmt: skip
    """A square with its interval and a small dot a seed; nothing for what diverged."""
    nats = sum(gaps) / len(gaps) if gaps else None
    if compared is not None:
        nats = compared.nats
    if nats is None or not math.isfinite(nats):
        return []
    square: Trace = {
        "type": "scatter", "mode": "markers", "name": text(label), "x": numbers([nats]),
        "y": [text(label)], "marker": {"size": 11, "symbol": "square"},
        "error_x": interval(compared.half_width if compared else None),
        "meta": source.looks[arm], "hovertemplate": hover,
    }  # fmt: skip
    if len(gaps) < 2:
        return [square]
    dots = source.dots(arm, numbers(gaps), [text(label)] * len(gaps))
    return [square, {**dots, "name": text(f"{label} (seeds)")}]


def _layout(source: Source, drawn: list[str]) -> dict[str, object]:
    margin = source.experiment.margin
    return {
        "xaxis": {"title": {"text": "Δ loss (nats a token)"}},
        "yaxis": names_axis(drawn),
        "shapes": [straight("v"), *([] if margin is None else [straight("v", margin, "dot")])],
        "height": 110 + 34 * len(drawn),
    }


def _bars(source: Source, what: str) -> str:
    if not source.several:
        return " One seed: no intervals."
    return f" Bars of {what} are simultaneous intervals, small dots the seeds."
