"""All charts of the page, in its order."""

from __future__ import annotations

from pyllmc.report.html import by_step, costs, finals
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
    found += [finals.rates(source), by_step.gap(source), costs.speed(source), costs.memory(source)]
    return [chart for chart in found if chart is not None]
