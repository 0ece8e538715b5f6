"""README.md put together: the order of the report's parts, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from pyllmc.report import (
    controls_text,
    cost,
    findings,
    fit,
    overview,
    rates_text,
    results,
    verdicts,
)
from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Family, against
from pyllmc.report.controls import tuned_and_controls
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, distinct_labels, groups, key_prefix, panels
from pyllmc.report.repeats import Repeat, check_repeats, dense_repeats

_HEADER = "<!-- Written by `pyllmc report`; the next one replaces every change made here. -->"


def render(experiment: Experiment, outcomes: Outcomes, charts: Mapping[str, str]) -> str:
    """The whole text. `charts` maps a chart's key to its path without suffix, relative to the
    README."""
    checks = check_repeats(experiment, outcomes)
    repeats: dict[str, bool] = {}  # whether the arm is identical to its baseline, all seeds
    for check in checks:
        repeats[check.arm.name] = repeats.get(check.arm.name, True) and not check.difference
    found = groups(experiment)
    families = {group.baseline.name: family_of(group, outcomes) for group in found}
    tuned, control, compared = tuned_and_controls(found[0], outcomes)
    short = findings.in_short(found[0], outcomes, repeats, families[found[0].baseline.name])
    if tuned is not None:
        short.insert(0, rates_text.which_rate(tuned, experiment))
        short += rates_text.in_short(tuned)
    short += rates_text.findings(tuned, len(experiment.seeds))
    short += controls_text.answers(control, len(experiment.seeds))
    blocks = [_HEADER, f"# {' '.join(experiment.title.split())}"]
    blocks += overview.banners(experiment, outcomes, checks)
    blocks += [f"> {line}" for line in controls_text.alarm(control)]
    blocks += [experiment.description]
    if experiment.questions:
        blocks += ["Questions:", md.bullets(experiment.questions)]
    blocks += ["## In short", md.bullets(short)]
    blocks += ["## Overview"]
    blocks += overview.architecture(experiment)
    blocks += overview.densities(experiment)
    blocks += overview.settings(experiment, outcomes)
    blocks += ["## Results", overview.validation_tokens(experiment)]
    for group in found:
        blocks += _results(group, experiment, outcomes, charts)
    blocks += ["## Summary"]
    for group in found:
        family = families[group.baseline.name]
        blocks += _summary(group, outcomes, charts, repeats, family, only=len(found) == 1)
    blocks += rates_text.section(tuned, experiment, outcomes)
    if tuned is not None:
        blocks += _image(charts, "learning_rate", "Final loss against learning rate")
    blocks += controls_text.section(control, outcomes, compared)
    blocks += _analysis(found[0], outcomes, checks)
    blocks += _beyond(found[0], experiment, outcomes, charts)
    blocks += findings.expectations(experiment, outcomes)
    blocks += results.published(experiment, outcomes)
    blocks += results.what_happened(outcomes)
    if experiment.provenance:
        facts = "; ".join(f"{name} {value}" for name, value in experiment.provenance.items())
        blocks += ["## Provenance", f"{facts}."]
    return "\n\n".join(blocks) + "\n"


def _results(
    group: Group, experiment: Experiment, outcomes: Outcomes, charts: Mapping[str, str]
) -> list[str]:
    blocks = []
    for panel in panels(group, experiment):
        blocks += [f"### {panel.title}"]
        blocks += results.by_step(panel, outcomes, len(experiment.seeds))
        blocks += _image(
            charts, panel.key, f"{panel.title}: loss by step, and difference to the baseline"
        )
    return blocks


def _summary(
    group: Group,
    outcomes: Outcomes,
    charts: Mapping[str, str],
    repeats: Mapping[str, bool],
    family: Family | None,
    *,
    only: bool,
) -> list[str]:
    blocks = [] if only else [f"### Against {md.escape(group.baseline.label)}"]
    blocks += results.summary(group, outcomes, repeats, family)
    experiment = outcomes.experiment
    blocks += verdicts.method(family, experiment, distinct_labels(group.arms))
    blocks += _image(
        charts, difference_key(group, experiment), "Differences to the baseline with intervals"
    )
    return blocks + _image(charts, density_key(group, experiment), "Final loss against density")


def family_of(group: Group, outcomes: Outcomes) -> Family | None:
    """Every arm of a group against its baseline, judged; repeats of the baseline are none."""
    same = {arm.name for arm, _ in dense_repeats(outcomes.experiment)}
    arms = [arm.name for arm in group.arms if arm.name not in same]
    return against(outcomes, arms, group.baseline.name)


def difference_key(group: Group, experiment: Experiment) -> str:
    """The key of a group's chart of differences."""
    return f"{key_prefix(group, experiment)}differences"


def density_key(group: Group, experiment: Experiment) -> str:
    """The key of a group's chart of final losses."""
    return f"{key_prefix(group, experiment)}density"


def _beyond(
    group: Group, experiment: Experiment, outcomes: Outcomes, charts: Mapping[str, str]
) -> list[str]:
    """The training data's side of the loss, and what the loss costs."""
    blocks = fit.section(group, outcomes)
    if blocks:
        blocks = ["## Training and validation", *blocks]
        for panel in panels(group, experiment):
            blocks += _image(
                charts, f"fit_{panel.key}", f"{panel.title}: loss on the training part, and its gap"
            )
    priced = cost.section(group, outcomes)
    if priced:
        blocks += ["## Cost", *priced]
        blocks += _image(charts, "cost", "Validation loss against training FLOPs and time")
    return blocks


def _analysis(group: Group, outcomes: Outcomes, checks: list[Repeat]) -> list[str]:
    blocks = findings.analysis(group, outcomes) + findings.repeats_text(checks)
    return ["## Analysis", *blocks] if blocks else []


def _image(charts: Mapping[str, str], key: str, text: str) -> list[str]:
    if key not in charts:
        return []
    return [f"![{text}]({charts[key]}.png)", f"[The same as SVG]({charts[key]}.svg)"]
