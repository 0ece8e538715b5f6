"""The page's charts as Plotly's traces and layouts, plain values; page.js gives them colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyllmc.report import markdown as md
from pyllmc.report.html.curves import Spread, after_start, numbers, spread
from pyllmc.report.html.inputs import Cell
from pyllmc.report.html.tables import table, text
from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.outcomes import Curve, Outcome, Outcomes, Sample, State, curves_of
from pyllmc.report.panels import Group, bandwidth_text, distinct_labels, groups, key_prefix

# A longer table is thinned; `pyllmc parse` has every row.
_MAX_ROWS = 21
_COLOURS = 8
_DASHES = ("solid", "dash", "dot", "dashdot")
Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One chart and its table.

    A trace's `meta` says to which arm it belongs ("arm", so that the picker can hide it) and which
    colour it has ("colour", -1 for a baseline). `views` maps the name of each view of the chart to
    its y-range; the traces of a view name it in `meta`.
    """

    key: str
    title: str
    note: str
    traces: list[Trace]
    layout: Mapping[str, Any]
    table: str
    views: Mapping[str, list[float] | None] = field(default_factory=dict)
    open: bool = True


class Charts:
    """All charts of an experiment."""

    def __init__(self, outcomes: Outcomes, cells: Sequence[Cell]) -> None:
        self.outcomes = outcomes
        self.experiment: Experiment = outcomes.experiment
        self.cells = cells
        self.groups = groups(self.experiment)
        self.labels = distinct_labels(self.experiment.arms)
        self.meta = metas(self.experiment.arms, {g.baseline.name for g in self.groups})

    def all(self) -> list[Chart]:
        """Those that have something to show, in the page's order."""
        found = [self.loss()]
        for group in self.groups:
            found += [self.difference(group), self.density(group), self.forest(group)]
        found += [self.gap(), self.speed(), self.memory()]
        return [chart for chart in found if chart is not None]

    def loss(self) -> Chart | None:
        """Validation and training loss by step, with the range over the seeds."""
        traces: list[Trace] = []
        ranges: dict[str, list[float] | None] = {}
        for view in ("validation", "training"):
            spreads = {}
            for arm in self.experiment.arms:
                shown = self._shown(arm)
                found = spread([o.val if view == "validation" else o.train for o in shown])
                if len(found.steps):
                    spreads[arm.name] = found
            for name, found in spreads.items():
                traces += self._curve(name, found, view=view, markers=view == "validation")
            if spreads:
                ranges[view] = after_start(list(spreads.values()))
        if not traces:
            return None
        return Chart(
            "loss",
            "Loss by step",
            self._seeds_note("Lines are means, bands the range,")
            + " The first losses lie above the frame: double-click shows everything.",
            traces,
            {"xaxis": {"title": {"text": "step"}},
             "yaxis": {"title": {"text": "loss (nats a token)"}}},
            self._steps_table({a.name: self._shown(a) for a in self.experiment.arms}),
            ranges,
            open=False,
        )  # fmt: skip

    def difference(self, group: Group) -> Chart | None:
        """Validation loss minus the baseline's by step, paired by seed."""
        base = group.baseline.name
        spreads = {}
        for arm in group.arms:
            found = spread(self._paired_gaps(arm.name, base))
            if len(found.steps):
                spreads[arm.name] = found
        if not spreads:
            return None
        traces = [t for name, found in spreads.items() for t in self._curve(name, found)]
        return Chart(
            f"{key_prefix(group, self.experiment)}difference",
            f"Difference to {self.labels[base]} by step",
            self._seeds_note("Validation loss minus the baseline's; lines are means, bands the "
                             "range,"),
            traces,
            {"xaxis": {"title": {"text": "step"}},
             "yaxis": {"title": {"text": "difference (nats a token)"},
                       "range": after_start(list(spreads.values()), around_zero=True)},
             "shapes": [_zero_line("h")]},
            self._spreads_table(spreads),
            open=False,
        )  # fmt: skip

    def gap(self) -> Chart | None:
        """Validation loss minus the loss on the fixed subset of the training data, by step."""
        curves = curves_of(self.experiment.losses)
        spreads = {}
        for arm in self.experiment.arms:
            gaps = []
            for outcome in self._shown(arm):
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
            self._seeds_note("Validation loss minus the loss on a fixed part of the training data; "
                             "lines are means, bands the range,"),
            [trace for name, found in spreads.items() for trace in self._curve(name, found)],
            {"xaxis": {"title": {"text": "step"}},
             "yaxis": {"title": {"text": "gap (nats a token)"}}, "shapes": [_zero_line("h")]},
            self._spreads_table(spreads),
            open=False,
        )  # fmt: skip

    def density(self, group: Group) -> Chart | None:
        """Final validation loss against the kept share of the matrices that have a pattern."""
        traces: list[Trace] = []
        rows = []
        for arm in (group.baseline, *group.arms):
            final = self.outcomes.final(arm.name)
            if final is None:
                continue
            label, share = self.labels[arm.name], 100 * arm.density
            found = _sample(final)[: 1 if self.experiment.one_seed else None]
            rows.append([label, bandwidth_text(arm), md.percent(arm.density), *found])
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": text(label), "x": [share],
                    "y": numbers([final.mean]), "marker": {"size": 11},
                    "error_y": _interval([final]), "meta": self.meta[arm.name],
                    "hovertemplate": "%{y:.4f} nats at %{x:.1f} % density",
                }
            )  # fmt: skip
            if final.n > 1:
                traces.append(self._dots(arm.name, [share] * final.n, numbers(final.values)))
        base = self.outcomes.final(group.baseline.name)
        if len(rows) < 2:
            return None
        shapes = [] if base is None else [{**_zero_line("h"), "y0": base.mean, "y1": base.mean}]
        return Chart(
            f"{key_prefix(group, self.experiment)}density",
            "Final loss against density",
            "Density is the kept share of the matrices that have a pattern; the dashed line is "
            + f"{self.labels[group.baseline.name]}. "
            + self._interval_note(),
            traces,
            {"xaxis": {"title": {"text": "density (%)"}},
             "yaxis": {"title": {"text": "final validation loss (nats a token)"}},
             "shapes": shapes},
            table(["Run", "Bandwidth", "Density", "Final val loss",
                   *([] if self.experiment.one_seed else ["SD", "95 % interval", "n"])], rows),
        )  # fmt: skip

    def forest(self, group: Group) -> Chart | None:
        """Final loss minus the baseline's, paired by seed: one row an arm, with its interval."""
        base = group.baseline.name
        traces: list[Trace] = []
        rows = []
        for arm in group.arms:
            difference = self.outcomes.difference(arm.name, base)
            if difference is None:
                continue
            label, nats = self.labels[arm.name], difference.nats
            half = nats.half_width
            interval = (
                "-" if half is None else f"{nats.mean - half:+.4f} to {nats.mean + half:+.4f}"
            )
            found = [label, md.signed(nats.mean), f"{md.signed(difference.percent, 2)} %"]
            rows.append(found if self.experiment.one_seed else [*found, interval, str(nats.n)])
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": text(label),
                    "x": numbers([nats.mean]), "y": [text(label)],
                    "marker": {"size": 11, "symbol": "square"}, "error_x": _interval([nats]),
                    "meta": self.meta[arm.name], "hovertemplate": "%{x:+.4f} nats",
                }
            )  # fmt: skip
            if nats.n > 1:
                traces.append(self._dots(arm.name, numbers(nats.values), [text(label)] * nats.n))
        if not traces:
            return None
        return Chart(
            f"{key_prefix(group, self.experiment)}forest",
            f"Final loss minus that of {self.labels[base]}",
            "Paired by seed; left of the line is a lower loss than the baseline's. "
            + self._interval_note(),
            traces,
            {"xaxis": {"title": {"text": "Δ final loss (nats a token)"}},
             "yaxis": self._rows(rows),
             "shapes": [_zero_line("v")], "height": 110 + 34 * len(rows)},
            table(["Run", "Δ (nats)", "Δ (%)",
                   *([] if self.experiment.one_seed else ["95 % interval", "n"])], rows),
        )  # fmt: skip

    def speed(self) -> Chart | None:
        """Median tokens a second of every arm."""
        return self._bars(
            "speed",
            "Speed",
            {(cell.arm, cell.seed): cell.tokens_per_second for cell in self.cells},
            "tokens a second",
            ",.0f",
            "Median over a run's steps, mean over its seeds, dots are seeds. Only runs that had "
            "the machine to themselves can be compared.",
        )

    def memory(self) -> Chart | None:
        """Memory that the trainer planned for every arm."""
        sizes = {
            (cell.arm, cell.seed): None if cell.memory_bytes is None else cell.memory_bytes / 2**20
            for cell in self.cells
        }
        return self._bars(
            "memory", "Memory", sizes, "MiB", ",.1f",
            "What the trainer planned: weights, gradients, optimizer, activations, workspace.",
        )  # fmt: skip

    def _bars(
        self,
        key: str,
        title: str,
        found: Mapping[tuple[str, int | None], float | None],
        unit: str,
        form: str,
        note: str,
    ) -> Chart | None:
        traces: list[Trace] = []
        rows = []
        for arm in self.experiment.arms:
            values = [v for (name, _), v in found.items() if name == arm.name and v is not None]
            if not values:
                continue
            sample, label = Sample(tuple(values)), self.labels[arm.name]
            spread_ = f"{min(values):{form}} to {max(values):{form}}" if len(values) > 1 else "-"
            found_ = [label, format(sample.mean, form)]
            rows.append(found_ if self.experiment.one_seed else [*found_, spread_, str(sample.n)])
            traces.append(
                {
                    "type": "bar", "orientation": "h", "name": text(label), "y": [text(label)],
                    "x": numbers([sample.mean]), "meta": self.meta[arm.name],
                    "hovertemplate": f"%{{x:{form}}} {unit}",
                }
            )  # fmt: skip
            if len(set(values)) > 1:
                traces.append(self._dots(arm.name, numbers(values), [text(label)] * len(values)))
        if not traces:
            return None
        return Chart(
            key,
            title,
            note,
            traces,
            {"xaxis": {"title": {"text": unit}, "rangemode": "tozero"},
             "yaxis": self._rows(rows),
             "height": 110 + 30 * len(rows)},
            table(["Run", unit[0].upper() + unit[1:],
                   *([] if self.experiment.one_seed else ["Range", "n"])], rows),
        )  # fmt: skip

    def _rows(self, rows: Sequence[Sequence[str]]) -> dict[str, Any]:
        """An axis of names, first on top; long ones are cut, on a narrow screen (page.js) more."""
        names = [row[0] for row in rows]
        return {
            "autorange": "reversed", "type": "category", "tickvals": [text(n) for n in names],
            "ticktext": [text(_cut(n, 40)) for n in names],
            "narrow": [text(_cut(n, 16)) for n in names],
        }  # fmt: skip

    def _shown(self, arm: Arm) -> list[Outcome]:
        """The arm's finished runs, or if none is, all that are not another run's."""
        found = self.outcomes.of(arm.name)
        return [o for o in found if o.state is State.DONE] or [
            o for o in found if o.state is not State.MISMATCHED
        ]

    def _paired_gaps(self, arm: str, base: str) -> list[Curve]:
        pairs = zip(self.outcomes.of(arm), self.outcomes.of(base), strict=True)
        return [
            {step: loss - other.val[step] for step, loss in one.val.items() if step in other.val}
            for one, other in pairs
            if State.MISMATCHED not in (one.state, other.state)
        ]

    def _curve(
        self, arm: str, found: Spread, *, view: str | None = None, markers: bool = True
    ) -> list[Trace]:
        meta = self.meta[arm] if view is None else {**self.meta[arm], "view": view}
        steps = found.steps.tolist()
        few = markers and len(steps) <= 60
        line: Trace = {
            "type": "scatter", "mode": "lines+markers" if few else "lines",
            "name": text(self.labels[arm]), "x": steps, "y": numbers(found.mean), "meta": meta,
            "hovertemplate": "%{y:.4f} at step %{x}",
        }  # fmt: skip
        if found.seeds < 2 or (found.low == found.high).all():
            return [line]
        band: Trace = {
            "type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip",
            "x": steps + steps[::-1], "y": numbers(found.high) + numbers(found.low)[::-1],
            "meta": {**meta, "band": True}, "name": text(f"{self.labels[arm]} (seeds)"),
        }  # fmt: skip
        return [band, line]

    def _dots(self, arm: str, x: list[Any], y: list[Any]) -> Trace:
        return {
            "type": "scatter", "mode": "markers", "hoverinfo": "skip", "x": x, "y": y,
            "name": text(f"{self.labels[arm]} (seeds)"), "marker": {"size": 5, "opacity": 0.55},
            "meta": {**self.meta[arm], "dots": True},
        }  # fmt: skip

    def _steps_table(self, shown: Mapping[str, Sequence[Outcome]]) -> str:
        curves = {
            name: self.outcomes.curve(name) for name, found in shown.items() if any(
                o.val for o in found)
        }  # fmt: skip
        steps = _thinned(sorted({step for curve in curves.values() for step in curve}))
        rows = [
            [str(step), *(md.loss(c[step].mean) if step in c else "-" for c in curves.values())]
            for step in steps
        ]
        return table(["Step", *(self.labels[name] for name in curves)], rows)

    def _spreads_table(self, spreads: Mapping[str, Spread]) -> str:
        values = [
            dict(zip(found.steps.tolist(), found.mean.tolist(), strict=True))
            for found in spreads.values()
        ]
        steps = sorted({step for found in values for step in found})
        rows = [
            [str(step), *(md.signed(v[step]) if step in v else "-" for v in values)]
            for step in _thinned(steps)
        ]
        return table(["Step", *(self.labels[name] for name in spreads)], rows)

    def _seeds_note(self, sentence: str) -> str:
        if self.experiment.one_seed:
            return "One seed: no error bars."
        return f"{sentence} of up to {len(self.experiment.seeds)} seeds."

    def _interval_note(self) -> str:
        if self.experiment.one_seed:
            return "One seed: no intervals."
        return "Bars are 95 % t intervals of the mean, small dots the seeds."


def metas(arms: Sequence[Arm], baselines: set[str]) -> dict[str, dict[str, Any]]:
    """Colour and dash by arm: baselines in the text's colour, the others in turn."""
    found: dict[str, dict[str, Any]] = {}
    base = other = 0
    for arm in arms:
        if arm.name in baselines:
            colour, dash = -1, _DASHES[base % len(_DASHES)]
            base += 1
        else:
            colour, dash = other % _COLOURS, _DASHES[other // _COLOURS % len(_DASHES)]
            other += 1
        found[arm.name] = {"arm": arm.name, "colour": colour, "dash": dash}
    return found


def _cut(label: str, length: int) -> str:
    return label if len(label) <= length else f"{label[: length - 1]}…"


def _interval(samples: Sequence[Sample]) -> dict[str, Any]:
    halves = [sample.half_width for sample in samples]
    shown = any(half is not None for half in halves)
    return {
        "type": "data",
        "visible": shown,
        "array": numbers([half or 0.0 for half in halves]) if shown else [],
    }


def _sample(sample: Sample) -> list[str]:
    half = sample.half_width
    interval = "-" if half is None else f"{sample.mean - half:.4f} to {sample.mean + half:.4f}"
    sd = "-" if sample.sd is None else f"{sample.sd:.4f}"
    return [md.loss(sample.mean), sd, interval, str(sample.n)]


def _zero_line(direction: str) -> dict[str, Any]:
    across, along = ("x", "y") if direction == "h" else ("y", "x")
    return {
        "type": "line", "layer": "below", f"{across}ref": "paper", f"{across}0": 0,
        f"{across}1": 1, f"{along}0": 0, f"{along}1": 0, "line": {"dash": "dash", "width": 1.5},
    }  # fmt: skip


def _thinned(steps: Sequence[int]) -> list[int]:
    if len(steps) <= _MAX_ROWS:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (_MAX_ROWS - 1))] for i in range(_MAX_ROWS)]
