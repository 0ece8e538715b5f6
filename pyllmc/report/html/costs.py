"""Charts of what runs cost: speed and memory."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report.html.chart import Chart, Source, Trace, names_axis
from pyllmc.report.html.curves import numbers
from pyllmc.report.html.tables import table, text
from pyllmc.report.outcomes import Sample

Values = Mapping[tuple[str, int | None], float | None]


def speed(source: Source) -> Chart | None:
    """Median tokens a second of every arm, from runs that had the machine to themselves where it
    is known which did."""
    alone = {(c.arm, c.seed): c.state.get("alone") for c in source.cells}
    speeds = {(c.arm, c.seed): c.tokens_per_second for c in source.cells}
    shared = sum(alone[key] is False for key, value in speeds.items() if value is not None)
    own = {key: value for key, value in speeds.items() if alone[key] is not False}
    note = "Median over a run's steps, mean over its seeds, dots are seeds. "
    if not any(value is not None for value in own.values()):
        own = speeds
        note += "No run had the machine to itself: these numbers compare nothing."
    elif shared:
        note += f"{shared} runs that shared the machine with others are left out."
    elif any(value is None for value in alone.values()):
        note += "Only runs that had the machine to themselves can be compared."
    else:
        note += "Every run had the machine to itself."
    return _bars(source, "speed", "Speed", own, "tokens a second", ",.0f", note)


def memory(source: Source) -> Chart | None:
    """Memory that the trainer planned for every arm."""
    sizes = {
        (c.arm, c.seed): None if c.memory_bytes is None else c.memory_bytes / 2**20
        for c in source.cells
    }
    note = "What the trainer planned: weights, gradients, optimizer, activations, workspace."
    return _bars(source, "memory", "Memory", sizes, "MiB", ",.1f", note)


def _bars(
    source: Source, key: str, title: str, found: Values, unit: str, form: str, note: str
) -> Chart | None:
    traces: list[Trace] = []
    rows = []
    for arm in source.experiment.arms:
        values = [v for (name, _), v in found.items() if name == arm.name and v is not None]
        if not values:
            continue
        sample, label = Sample(tuple(values)), source.labels[arm.name]
        told = [label, format(sample.mean, form)]
        spread = f"{min(values):{form}} to {max(values):{form}}" if len(values) > 1 else "-"
        rows.append([*told, spread, str(sample.n)] if source.several else told)
        traces.append(
            {
                "type": "bar", "orientation": "h", "name": text(label), "y": [text(label)],
                "x": numbers([sample.mean]), "meta": source.looks[arm.name],
                "hovertemplate": f"%{{x:{form}}} {unit}",
            }
        )  # fmt: skip
        if len(set(values)) > 1:
            traces.append(source.dots(arm.name, numbers(values), [text(label)] * len(values)))
    if not traces:
        return None
    return Chart(
        key,
        title,
        note,
        traces,
        {
            "xaxis": {"title": {"text": unit}, "rangemode": "tozero"},
            "yaxis": names_axis([row[0] for row in rows]),
            "height": 110 + 30 * len(rows),
        },
        table(["Run", unit[0].upper() + unit[1:], *(["Range", "n"] if source.several else [])],
              rows),
    )  # fmt: skip
