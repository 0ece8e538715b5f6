"""What a chart of the page is, and the pieces that charts share. page.js gives them colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from pyllmc.report.html.curves import Spread, numbers
from pyllmc.report.html.inputs import Cell
from pyllmc.report.html.tables import text
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, distinct_labels, groups
from pyllmc.report.rates import configurations

_COLOURS = 8
_DASHES = ("solid", "dash", "dot", "dashdot")

Trace = dict[str, Any]


class View(TypedDict):
    """What a view's x-axis shows, and its y-range (None: all)."""

    x: str
    range: list[float] | None


@dataclass(frozen=True)
class Chart:
    """One chart, as Plotly's traces and layout, and its table as HTML.

    A trace's `meta` says to which arm it belongs ("arm", so that the picker can hide it) and which
    colour it has ("colour", -1 for a baseline). A chart with several views has them in `views` by
    name; the traces of a view name it in `meta`.
    """

    key: str
    title: str
    note: str
    traces: list[Trace]
    layout: Mapping[str, Any]
    table: str
    views: Mapping[str, View] = field(default_factory=dict)
    open: bool = True


class Source:
    """What every chart is made from."""

    def __init__(self, outcomes: Outcomes, cells: Sequence[Cell]) -> None:
        self.outcomes = outcomes
        self.experiment: Experiment = outcomes.experiment
        self.cells = cells
        self.groups: list[Group] = groups(self.experiment)
        self.labels = distinct_labels(self.experiment.arms)
        self.several = not self.experiment.one_seed
        self.looks = looks(self.experiment, {g.baseline.name for g in self.groups})

    def named(self, title: str, group: Group) -> str:
        """A chart's title, with its group's baseline where there are several groups."""
        several = len(self.groups) > 1
        return f"{title} (against {self.labels[group.baseline.name]})" if several else title

    def curve(
        self, arm: str, found: Spread, *, view: str | None = None, markers: bool = True
    ) -> list[Trace]:
        """A line of means, and below it the band of the seeds where there are several."""
        meta = self.looks[arm] if view is None else {**self.looks[arm], "view": view}
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

    def dots(self, arm: str, x: list[Any], y: list[Any]) -> Trace:
        """One small dot a seed."""
        return {
            "type": "scatter", "mode": "markers", "hoverinfo": "skip", "x": x, "y": y,
            "name": text(f"{self.labels[arm]} (seeds)"), "marker": {"size": 5, "opacity": 0.55},
            "meta": {**self.looks[arm], "dots": True},
        }  # fmt: skip

    def means_and_ranges(self, sentence: str) -> str:
        """A note on lines and bands; `sentence` ends before "of up to n seeds"."""
        if not self.several:
            return "One seed: no error bars."
        return f"{sentence} of up to {len(self.experiment.seeds)} seeds."


def looks(experiment: Experiment, baselines: set[str]) -> dict[str, dict[str, Any]]:
    """Colour and dash by arm: baselines in the text's colour, the others in turn. Arms that differ
    in their learning rate only share a colour; what shares one differs in its dash."""
    colours: dict[str, tuple[int, int]] = {}
    base = other = 0
    for configuration in configurations(experiment):
        names = [arm.name for arm in configuration.arms.values()]
        if baselines & set(names):
            first, colour, base = base, -1, base + len(names)
        else:
            first, colour, other = other // _COLOURS, other % _COLOURS, other + 1
        for i, name in enumerate(names):
            colours[name] = (colour, first + i)
    found = {}
    for arm in experiment.arms:
        colour, dash = colours.get(arm.name, (_COLOURS - 1, 0))  # asks for what another asks for
        found[arm.name] = {"arm": arm.name, "colour": colour, "dash": _DASHES[dash % len(_DASHES)]}
    return found


def interval(half_width: float | None) -> dict[str, Any]:
    """The error bar of one point, none for None."""
    shown = half_width is not None
    return {"type": "data", "visible": shown, "array": numbers([half_width]) if shown else []}


def straight(direction: str, at: float = 0.0, dash: str = "dash") -> dict[str, Any]:
    """A line across the whole chart: "h" at a height, "v" at a place."""
    across, along = ("x", "y") if direction == "h" else ("y", "x")
    return {
        "type": "line", "layer": "below", f"{across}ref": "paper", f"{across}0": 0,
        f"{across}1": 1, f"{along}0": at, f"{along}1": at, "line": {"dash": dash, "width": 1.5},
    }  # fmt: skip


def names_axis(names: Sequence[str]) -> dict[str, Any]:
    """An axis of names, first on top; long ones are cut in the middle, on a narrow screen (page.js)
    more."""
    return {
        "autorange": "reversed", "type": "category", "tickvals": [text(name) for name in names],
        "ticktext": [text(_cut(name, 40)) for name in names],
        "narrow": [text(_cut(name, 16)) for name in names],
    }  # fmt: skip


def _cut(label: str, length: int) -> str:
    tail = length * 2 // 5
    return label if len(label) <= length else f"{label[: length - tail - 1]}…{label[-tail:]}"
