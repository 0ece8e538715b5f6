"""A report on disk: README.md and charts/ in one folder."""

from __future__ import annotations

from pathlib import Path

from pyllmc.files import atomic_write
from pyllmc.report.axis_charts import cost_chart, difference_chart, fit_chart, rate_chart
from pyllmc.report.charts import density_chart, loss_chart
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import groups, panels
from pyllmc.report.rates import tuning
from pyllmc.report.readme import density_key, difference_key, family_of, render


def write_report(experiment: Experiment, folder: Path) -> Path:
    """Writes README.md and its charts (PNG and SVG); returns the README's path.

    The same experiment gives the same bytes. Files are replaced whole; the README comes last, so
    that it never shows charts that are not there. Raises WriteError.
    """
    outcomes = Outcomes(experiment)
    drawn: dict[str, dict[str, bytes] | None] = {}
    for group in groups(experiment):
        for panel in panels(group, experiment):
            if any(len(outcomes.curve(arm.name)) for arm in (panel.baseline, *panel.arms)):
                drawn[panel.key] = loss_chart(panel, outcomes)
        family = family_of(group, outcomes)
        drawn[difference_key(group, experiment)] = difference_chart(group, family)
        drawn[density_key(group, experiment)] = density_chart(group, outcomes)
    first = groups(experiment)[0]
    for panel in panels(first, experiment):
        drawn[f"fit_{panel.key}"] = fit_chart(panel, outcomes)
    drawn["cost"] = cost_chart(first, outcomes)
    drawn["learning_rate"] = rate_chart(tuning(experiment, outcomes), outcomes)
    paths = {}
    for key, images in drawn.items():
        if images is None:
            continue
        paths[key] = f"charts/{key}"
        for suffix, image in images.items():
            atomic_write(folder / f"{paths[key]}.{suffix}", image)
    readme = folder / "README.md"
    atomic_write(readme, render(experiment, outcomes, paths))
    return readme
