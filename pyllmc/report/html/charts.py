"""All charts of the page, in its order."""

from __future__ import annotations

from pyllmc.report.controls import tuned_and_controls
from pyllmc.report.html import by_step, costs, finals, judged
from pyllmc.report.html.chart import Chart, Source


def all_charts(source: Source) -> list[Chart]:
    """Those that have something to show."""
    found = [by_step.loss(source)]
    for group in source.groups:
        found += [
            by_step.difference(source, group),
            finals.density(source, group),
            finals.forest(source, group),
        ]
    tuned, controls, what = tuned_and_controls(source.groups[0], source.outcomes)
    found += [
        finals.rates(source),
        judged.tuned(source, tuned),
        judged.controls(source, controls, what),
        by_step.gap(source),
        costs.speed(source),
        costs.memory(source),
    ]
    return [chart for chart in found if chart is not None]
