"""Charts over training steps: loss, difference to the baseline, gap to the training data."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report import markdown as md
from pyllmc.report.cost import against_flops, against_time, differs
from pyllmc.report.excerpt import table_steps
from pyllmc.report.html.chart import Chart, Source, Trace, View, straight
from pyllmc.report.html.curves import Spread, frame, numbers, spread
from pyllmc.report.html.tables import table, text
from pyllmc.report.panels import Group, key_prefix

_STEP = {"title": {"text": "step"}}


def loss(source: Source) -> Chart | None:
    """Validation and training loss, with the range over the seeds; and validation loss against
    what training cost, where runs differ in that."""
    traces: list[Trace] = []
    views: dict[str, View] = {}
    for view in ("validation", "training"):
        spreads = {}
        for arm in source.experiment.arms:
            shown = source.outcomes.shown(arm.name)
            found = spread([o.val if view == "validation" else o.train for o in shown])
            if len(found.steps):
                spreads[arm.name] = found
        for name, found in spreads.items():
            traces += source.curve(name, found, view=view, markers=view == "validation")
        if spreads:
            views[view] = {"x": "step", "range": frame(spreads.values())}
    if not traces:
        return None
    arms = source.experiment.arms
    for view, x, curves in (
        ("validation by FLOPs", "executed training FLOPs",
         {a.name: against_flops(source.experiment, source.outcomes, a) for a in arms}),
        ("validation by time", "seconds of training",
         {a.name: against_time(source.outcomes, a) for a in arms}),
    ):  # fmt: skip
        if "validation" in views and differs(curves):
            views[view] = {"x": x, "range": views["validation"]["range"]}
            traces += [_against(source, a, view, c) for a, c in curves.items() if c]
    return Chart(
        "loss",
        "Loss by step",
        source.means_and_ranges("Lines are means, bands the range")
        + " The first losses lie above the frame: double-click shows everything.",
        traces,
        {"xaxis": _STEP, "yaxis": {"title": {"text": "loss (nats a token)"}}},
        _losses_table(source),
        views,
        open=False,
    )


def _against(source: Source, arm: str, view: str, curve: Mapping[float, float]) -> Trace:
    return {
        "type": "scatter", "mode": "lines", "name": text(source.labels[arm]),
        "x": numbers(list(curve)), "y": numbers(list(curve.values())),
        "meta": {**source.looks[arm], "view": view}, "hovertemplate": "%{y:.4f} at %{x:.3s}",
    }  # fmt: skip


def difference(source: Source, group: Group) -> Chart | None:
    """Validation loss minus the baseline's, paired by seed."""
    spreads = {}
    for arm in group.arms:
        found = spread(source.outcomes.gaps(arm.name, group.baseline.name))
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
                "range": frame(spreads.values(), around_zero=True),
            },
            "shapes": [straight("h")],
        },
        _differences_table(source, spreads),
        open=False,
    )


def gap(source: Source) -> Chart | None:
    """Validation loss minus the loss on the fixed subset of the training data."""
    spreads = {}
    for arm in source.experiment.arms:
        found = spread(
            [
                {s: x - o.subset[s] for s, x in o.val.items() if s in o.subset}
                for o in source.outcomes.shown(arm.name)
            ]
        )
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
    steps = table_steps(sorted({step for curve in curves.values() for step in curve}))
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
    steps = table_steps(sorted({step for found in values for step in found}))
    rows = [[str(s), *(md.signed(v[s]) if s in v else "-" for v in values)] for s in steps]
    return table(["Step", *(source.labels[name] for name in spreads)], rows)
