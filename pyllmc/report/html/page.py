"""The page put together: text, charts with their tables, weights, and every run's record."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from pyllmc.report import markdown as md
from pyllmc.report.html.chart import Chart, Source
from pyllmc.report.html.charts import all_charts
from pyllmc.report.html.inputs import Evidence, Weights
from pyllmc.report.html.readme_parts import readme_parts
from pyllmc.report.html.records import run_records
from pyllmc.report.html.tables import table, text, unbroken
from pyllmc.report.outcomes import Outcomes

# The page may run what it holds and show it, and may load nothing from anywhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


def page(outcomes: Outcomes, evidence: Evidence, readme: str, plotly: str) -> str:
    """The whole file. `readme` is the README's text, `plotly` the source of plotly.min.js.

    The same arguments give the same text.
    """
    source = Source(outcomes, evidence.cells)
    charts = all_charts(source)
    shown = [weights for weights in evidence.weights if weights.maps]
    data = {
        "charts": [
            {"key": c.key, "traces": c.traces, "layout": c.layout, "views": c.views} for c in charts
        ],
        "weights": [_maps(weights) for weights in shown],
    }
    first, rest = readme_parts(readme)
    title = " ".join(outcomes.experiment.title.split())
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title>",
            f"<style>\n{_asset('page.css')}</style>\n</head>\n<body>",
            '<header class="top"><button id="theme" type="button">Dark theme</button></header>',
            f"<main>\n{first}",
            "<h2>Charts</h2>",
            _picker(source),
            *map(_section, charts),
            _weights(source, evidence.weights, shown),
            rest,
            run_records(outcomes, evidence.cells),
            "<footer>Written by <code>pyllmc report</code>; the next one replaces it. Everything "
            "on this page is in this file: it works offline.</footer>\n</main>",
            f'<script type="application/json" id="page-data">{script_json(data)}</script>',
            f"<script>{plotly}</script>",
            f"<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n",
        ]
    )  # fmt: skip


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever a name contains."""
    dumped = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return dumped.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _picker(source: Source) -> str:
    chips = "".join(
        _chip(arm.name, source.labels[arm.name], source.looks[arm.name])
        for arm in source.experiment.arms
    )
    return (
        '<div id="picker" role="group" aria-label="Runs shown in the charts">'
        '<button type="button" id="pick-all">All</button>'
        f'<button type="button" id="pick-none">None</button>{chips}</div>'
    )


def _chip(name: str, label: str, look: Mapping[str, Any]) -> str:
    colour = "base" if look["colour"] < 0 else f"c{look['colour']}"
    return (
        f'<label class="chip {look["dash"]}" style="--c:var(--{colour})" title="{text(label)}">'
        f'<input type="checkbox" checked value="{text(name)}"><i></i><span>{text(label)}</span>'
        "</label>"
    )


def _section(chart: Chart) -> str:
    views = "".join(
        f'<button type="button" data-chart="{text(chart.key)}" data-view="{text(view)}">'
        f"{text(view[0].upper() + view[1:])}</button>"
        for view in chart.views
        if len(chart.views) > 1
    )
    controls = f'<div class="controls">{views}</div>' if views else ""
    return (
        f"<section>\n<h3>{unbroken(chart.title)}</h3>\n{controls}"
        f'<div class="plot" id="chart-{text(chart.key)}"></div>\n'
        f'<p class="note">{text(chart.note)}</p>\n'
        f"<details{' open' if chart.open else ''}><summary>Table</summary>{chart.table}</details>\n"
        "</section>"
    )


def _weights(source: Source, every: Sequence[Weights], shown: Sequence[Weights]) -> str:
    labels = source.labels
    problems = [w for w in every if w.problem]
    if not shown and not problems:
        return ""
    parts = ["<section>\n<h3>Weights: |W| per layer</h3>"]
    if shown:
        options = "".join(
            f'<option value="{i}">{text(_of(weights, labels))}</option>'
            for i, weights in enumerate(shown)
        )
        parts += [
            f'<div class="controls"><select id="weights-select" aria-label="Run">{options}</select>'
            '</div>\n<div class="plot" id="chart-weights"></div>',
            '<p class="note">From the checkpoints: mean |W| over blocks of the MLP matrices, rows '
            "are outputs. Empty blocks hold no weight at all.</p>",
        ]
        parts += [
            f'<div data-weights="{i}"{" hidden" if i else ""}>{_weights_table(weights)}</div>'
            for i, weights in enumerate(shown)
        ]
    parts += [
        f'<p class="note">{text(_of(w, labels))}: no picture, {text(w.problem)}</p>'
        for w in problems
    ]
    return "\n".join([*parts, "</section>"])


def _of(weights: Weights, labels: Mapping[str, str]) -> str:
    seed = "" if weights.seed is None else f", seed {weights.seed}"
    return f"{labels[weights.arm]}{seed}"


def _weights_table(weights: Weights) -> str:
    rows = []
    for m in weights.maps:
        shape = f"{m.rows} × {m.cols}"
        rows.append([str(m.layer), m.name.upper(), shape, md.percent(m.nonzero), f"{m.top:.4g}"])
    header = ["Layer", "Matrix", "Shape", "Not 0", "Largest block mean"]
    return (
        f"<details><summary>Table ({text(weights.file)})</summary>{table(header, rows)}</details>"
    )


def _maps(weights: Weights) -> list[dict[str, Any]]:
    return [
        {
            "title": f"Layer {m.layer} {m.name.upper()}",
            "rows": m.rows,
            "cols": m.cols,
            "down": m.levels.shape[0],
            "across": m.levels.shape[1],
            "top": m.top,
            "levels": base64.b64encode(m.levels.tobytes()).decode("ascii"),
        }
        for m in weights.maps
    ]
