"""Charts over training steps: loss, difference to the baseline, gap to the training data."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report import markdown as md
from pyllmc.report.html.chart import Chart, Source, Trace, straight, thinned_steps
from pyllmc.report.html.curves import Spread, after_start, spread
from pyllmc.report.html.tables import table
from pyllmc.report.outcomes import State, curves_of
from pyllmc.report.panels import Group, key_prefix

_STEP = {"title": {"text": "step"}}


def loss(source: Source) -> Chart | None:
    """Validation and training loss, with the range over the seeds."""
    traces: list[Trace] = []
    ranges: dict[str, list[float] | None] = {}
    for view in ("validation", "training"):
        spreads = {}
        for arm in source.experiment.arms:
            shown = source.shown(arm)
            found = spread([o.val if view == "validation" else o.train for o in shown])
            if len(found.steps):
                spreads[arm.name] = found
        for name, found in spreads.items():
            traces += source.curve(name, found, view=view, markers=view == "validation")
        if spreads:
            ranges[view] = after_start(list(spreads.values()))
    if not traces:
        return None
    return Chart(
        "loss",
        "Loss by step",
        source.means_and_ranges("Lines are means, bands the range")
        + " The first losses lie above the frame: double-click shows everything.",
        traces,
        {"xaxis": _STEP, "yaxis": {"title": {"text": "loss (nats a token)"}}},
        _losses_table(source),
        ranges,
        open=False,
    )


def difference(source: Source, group: Group) -> Chart | None:
    """Validation loss minus the baseline's, paired by seed."""
    base = source.outcomes.of(group.baseline.name)
    spreads = {}
    for arm in group.arms:
        found = spread(
            [
                {s: x - other.val[s] for s, x in one.val.items() if s in other.val}
                for one, other in zip(source.outcomes.of(arm.name), base, strict=True)
                if State.MISMATCHED not in (one.state, other.state)
            ]
        )
        if len(found.steps):
            spreads[arm.name] = found
    if not spreads:
        return None
    return Chart(
        f"{key_prefix(group, source.experiment)}difference",
        f"Difference to {source.labels[group.baseline.name]} by step",
        source.means_and_ranges(
            "Validation loss minus the baseline's; lines are means, bands the range"
        ),
        [trace for name, found in spreads.items() for trace in source.curve(name, found)],
        {
            "xaxis": _STEP,
            "yaxis": {
                "title": {"text": "difference (nats a token)"},
                "range": after_start(list(spreads.values()), around_zero=True),
            },
            "shapes": [straight("h")],
        },
        _differences_table(source, spreads),
        open=False,
    )


def gap(source: Source) -> Chart | None:
    """Validation loss minus the loss on the fixed subset of the training data."""
    curves = curves_of(source.experiment.losses)
    spreads = {}
    for arm in source.experiment.arms:
        gaps = []
        for outcome in source.shown(arm):
            subset = curves.get((arm.name, outcome.trial.seed, "train_subset"), {})
            gaps.append({s: x - subset[s] for s, x in outcome.val.items() if s in subset})
        found = spread(gaps)
        if len(found.steps):
            spreads[arm.name] = found
    if not spreads:
        return None
    return Chart(
        "gap",
        "Gap between validation and training data by step",
        source.means_and_ranges(
            "Validation loss minus the loss on a fixed part of the training data; lines are "
            "means, bands the range"
        ),
        [trace for name, found in spreads.items() for trace in source.curve(name, found)],
        {
            "xaxis": _STEP,
            "yaxis": {"title": {"text": "gap (nats a token)"}},
            "shapes": [straight("h")],
        },
        _differences_table(source, spreads),
        open=False,
    )


def _losses_table(source: Source) -> str:
    curves = {arm.name: source.outcomes.curve(arm.name) for arm in source.experiment.arms}
    curves = {name: curve for name, curve in curves.items() if curve}
    steps = thinned_steps(sorted({step for curve in curves.values() for step in curve}))
    rows = [
        [str(step), *(md.loss(c[step].mean) if step in c else "-" for c in curves.values())]
        for step in steps
    ]
    return table(["Step", *(source.labels[name] for name in curves)], rows)


def _differences_table(source: Source, spreads: Mapping[str, Spread]) -> str:
    values = [
        dict(zip(found.steps.tolist(), found.mean.tolist(), strict=True))
        for found in spreads.values()
    ]
    steps = thinned_steps(sorted({step for found in values for step in found}))
    rows = [[str(s), *(md.signed(v[s]) if s in v else "-" for v in values)] for s in steps]
    return table(["Step", *(source.labels[name] for name in spreads)], rows)
