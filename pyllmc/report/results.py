"""The report's tables of losses: by step, final, and beside published numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Family
from pyllmc.report.excerpt import table_steps
from pyllmc.report.inputs import Arm, Experiment, Published
from pyllmc.report.outcomes import Outcome, Outcomes, State
from pyllmc.report.panels import Group, Panel, distinct_labels, mlp_text
from pyllmc.report.verdicts import verdict_text


def by_step(panel: Panel, outcomes: Outcomes, seeds: int) -> list[str]:
    """Step | baseline | arms, one row a validation."""
    arms = (panel.baseline, *panel.arms)
    labels = distinct_labels(arms)
    curves = {arm.name: outcomes.curve(arm.name) for arm in arms}
    steps = sorted({step for curve in curves.values() for step in curve})
    if not steps:
        return ["No validation loss was logged."]
    shown = table_steps(steps)
    rows = [
        [str(step), *(md.loss(c[step].mean) if step in c else "-" for c in curves.values())]
        for step in shown
    ]
    blocks = [md.table(["Step", *labels.values()], rows)]
    notes = []
    if seeds > 1:
        notes.append("Means over the seeds that finished.")
    if len(shown) < len(steps):
        notes.append(f"{len(shown)} of {len(steps)} validations; `pyllmc parse` prints all.")
    return blocks + ([" ".join(notes)] if notes else [])


def summary(
    group: Group, outcomes: Outcomes, repeats: Mapping[str, bool], family: Family | None
) -> list[str]:
    """Config | bandwidth | density | final loss | Δ, one row an arm; with several seeds the final
    loss's interval and a verdict on Δ too."""
    seeds = len(outcomes.experiment.seeds)
    labels = distinct_labels((group.baseline, *group.arms))
    tested = any(outcomes.test(arm.name) for arm in (group.baseline, *group.arms))
    rows = []
    for arm in (group.baseline, *group.arms):
        difference = compared = None
        if arm is not group.baseline:
            difference = outcomes.difference(arm.name, group.baseline.name)
            compared = family.comparisons.get(arm.name) if family else None
        final = outcomes.final(arm.name)
        rows.append(
            [
                labels[arm.name],
                mlp_text(arm),
                md.percent(arm.density),
                md.mean_sd(final, seeds),
                *([md.interval(final)] if seeds > 1 else []),
                *md.difference(difference, compared),
                *([verdict_text(compared)] if seeds > 1 else []),
                *([md.mean_sd(outcomes.test(arm.name), seeds)] if tested else []),
                _remark(arm, group, outcomes, repeats),
            ]
        )
    header = ["Config", "BW", "Density", "Final val loss"]
    header += ["95 % interval"] if seeds > 1 else []
    header += ["Δ vs baseline (nats)", "Δ (%)", *(["Verdict"] if seeds > 1 else [])]
    return [md.table([*header, *(["Test loss"] if tested else []), "Note"], rows)]


def what_happened(outcomes: Outcomes) -> list[str]:
    """Every run that is not done, named with the reason."""
    trouble = [o for o in outcomes.all if o.state is not State.DONE]
    blocks = ["## What happened"]
    if trouble:
        experiment = outcomes.experiment
        labels = distinct_labels(experiment.arms)
        several = len(experiment.seeds) > 1
        header = ["Run", *(["Seed"] if several else []), "State", "Why"]
        rows = [
            [labels[o.trial.arm], *([str(o.trial.seed)] if several else []), o.state.value, o.why]
            for o in trouble
        ]
        blocks.append(md.table(header, rows))
        rule = "These runs are left out of every comparison above"
        if several and any(o.state is State.DIVERGED for o in trouble):
            rule += ", except that one that diverged counts as infinitely bad"
        blocks.append(f"{rule}.")
    else:
        blocks.append(f"All {len(outcomes.all)} runs finished.")
    counts = outcomes.experiment.losses.attrs.get("counts", {})
    notes = []
    for path, n in counts.items():
        name = md.escape(path.rpartition("/")[2])
        if n["skipped"]:
            torn = ", one of them a last line cut short" if n["torn"] else ""
            notes.append(f"{name}: {n['skipped']} lines were not understood{torn}.")
        if n["repeated"]:
            notes.append(f"{name}: {n['repeated']} losses were logged again (a resumed run); "
                         "the last of each step counts.")  # fmt: skip
    return blocks + ([md.bullets(notes)] if notes else [])


def published(experiment: Experiment, outcomes: Outcomes) -> list[str]:
    """Ours beside the published numbers, at the last step that both have."""
    if not experiment.published:
        return []
    values = {(p.arm, p.step): p for p in experiment.published}
    arms = [arm for arm in experiment.arms if any(p.arm == arm.name for p in experiment.published)]
    ours = {
        arm.name: {step: spread.mean for step, spread in outcomes.curve(arm.name).items()}
        for arm in arms
    }
    step = _common_step(arms, values, outcomes)
    labels = distinct_labels(arms)
    last = max(p.step for p in experiment.published)
    if step is None:
        intro = (
            f"The published runs end at step {last}; these runs have no validation step above 0 in "
            "common with them, so losses cannot be compared. Only the published ones are listed."
        )
    else:
        intro = f"Both at step {step}. Differences are to each side's own baseline."
        if step != last:
            intro += f" The published runs went on to step {last}."
    rows = []
    for arm in arms:
        theirs = values.get((arm.name, last if step is None else step))
        base = values.get((arm.baseline, last if step is None else step))
        row = [
            labels[arm.name],
            md.percent(arm.density),
            _number(theirs),
            "-" if arm.name == arm.baseline else _published_delta(theirs, base),
        ]
        if step is not None:
            mine, reference = ours[arm.name].get(step), None
            if arm.baseline in ours and arm.name != arm.baseline:
                reference = ours[arm.baseline].get(step)
            row += ["-" if mine is None else md.loss(mine), _delta(mine, reference)]
        rows.append([*row, _published_note(arm, theirs, base)])
    header = ["Config", "Density", "Published", "Δ published"]
    header += ["Ours", "Δ ours"] if step is not None else []
    return ["## Beside the published numbers", intro, md.table([*header, "Note"], rows)]


def _remark(arm: Arm, group: Group, outcomes: Outcomes, repeats: Mapping[str, bool]) -> str:
    parts = []
    if arm.name in repeats:
        same = "a repeat of the baseline" if repeats[arm.name] else "should be the baseline, is NOT"
        parts.append(f"keeps everything: {same}")
    elif arm is not group.baseline and arm.banded and not arm.sparse:
        parts.append("keeps everything")
    troubled = [o for o in outcomes.of(arm.name) if o.state is not State.DONE]
    for outcome in troubled:
        seed = "" if outcome.trial.seed is None else f"seed {outcome.trial.seed} "
        parts.append(f"{seed}{_short(outcome)}")
    steps = {o.last_step for o in outcomes.of(arm.name) if o.state is State.DONE}
    base = {o.last_step for o in outcomes.of(group.baseline.name) if o.state is State.DONE}
    if steps and base and steps != base:
        parts.append(f"ended at step {md.listed(sorted(map(str, steps)))}")
    return "; ".join(parts)


def _short(outcome: Outcome) -> str:
    if outcome.state is State.UNFINISHED and outcome.last_step is not None:
        value = md.loss(outcome.val[outcome.last_step])
        return f"unfinished ({value} at step {outcome.last_step})"
    return outcome.state.value


def _common_step(
    arms: list[Arm], values: dict[tuple[str, int], Published], outcomes: Outcomes
) -> int | None:
    common: set[int] = set()
    for arm in arms:
        steps = outcomes.curve(arm.name)
        common |= {step for name, step in values if name == arm.name and step in steps}
    return max((step for step in common if step > 0), default=None)


def _number(entry: Published | None) -> str:
    return "-" if entry is None else f"{entry.value:g}"


def _published_delta(theirs: Published | None, base: Published | None) -> str:
    return _delta(None if theirs is None else theirs.value, None if base is None else base.value)


def _delta(value: float | None, base: float | None) -> str:
    if value is None or base is None or not (math.isfinite(value) and math.isfinite(base)):
        return "-"
    return f"{md.signed(100 * (value - base) / base, 2)} %"


def _published_note(arm: Arm, theirs: Published | None, base: Published | None) -> str:
    parts = []
    if theirs is not None and theirs.note:
        parts.append(theirs.note)
    if arm.name != arm.baseline and theirs is not None and base is not None:
        if arm.banded and not arm.sparse:
            parts += [] if theirs.note else ["keeps everything"]
            parts.append("the published Δ is noise")
        if base.note:
            parts.append(f"its baseline: {base.note}")
    return "; ".join(parts)
