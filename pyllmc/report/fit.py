"""How well the training data are fitted: the loss on a fixed part of them, and its gap to the
validation loss."""

from __future__ import annotations

from collections.abc import Sequence

from pyllmc.report import markdown as md
from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.outcomes import Curve, Outcome, Outcomes, Sample, Spread, State, spread_of
from pyllmc.report.panels import Group, distinct_labels


def subset_curve(outcomes: Outcomes, arm: str) -> dict[int, Spread]:
    """Loss on the fixed part of the training data by step, over the finished runs."""
    return spread_of([o.subset for o in _done(outcomes, arm)])


def gap_curve(outcomes: Outcomes, arm: str) -> dict[int, Spread]:
    """Validation loss minus that loss by step, seed by seed, over the finished runs."""
    return spread_of([_gap(o) for o in _done(outcomes, arm)])


def section(group: Group, outcomes: Outcomes) -> list[str]:
    """One row an arm at its last common step; nothing where no run logged such a loss."""
    arms = [a for a in (group.baseline, *group.arms) if subset_curve(outcomes, a.name)]
    if not arms:
        return []
    seeds = len(outcomes.experiment.seeds)
    labels = distinct_labels((group.baseline, *group.arms))
    rows = []
    for arm in arms:
        pairs = [
            (o.subset[last], o.val[last])
            for o in _done(outcomes, arm.name)
            if (last := max(_gap(o), default=None)) is not None
        ]
        if not pairs:
            continue
        samples = [
            Sample(tuple(values))
            for values in (
                [train for train, _ in pairs],
                [val for _, val in pairs],
                [val - train for train, val in pairs],
            )
        ]
        train, val, gap = samples
        spread = "" if gap.sd is None else f" ± {gap.sd:.4f}"
        rows.append(
            [
                labels[arm.name],
                _epochs(outcomes.experiment, arm),
                md.mean_sd(train, seeds),
                md.mean_sd(val, seeds),
                md.signed(gap.mean) + spread,
            ]
        )
    if not rows:
        return []
    header = ["Config", "Epochs", "Loss on the training part", "Val loss", "Val − training part"]
    return [
        md.table(header, rows),
        "The training part is the same for every run and step, so that its loss, unlike the "
        "training log's, can be set against validation: a run that fits it better without a better "
        "validation loss has memorized."
        + (" ± is the standard deviation over the seeds." if seeds > 1 else ""),
    ]


def epochs(experiment: Experiment, arm: Arm) -> float | None:
    """How often the run sees the training data; None when the logs do not say how much it is."""
    for trial in experiment.trials:
        used = {**arm.settings, **trial.settings}
        there = used.get("train_tokens")
        if trial.arm == arm.name and there:
            seen = 1
            for key in ("steps", "batch_size", "sequence_length", "accumulate"):
                seen *= int(used.get(key) or 1)
            return seen / int(there)
    return None


def _epochs(experiment: Experiment, arm: Arm) -> str:
    count = epochs(experiment, arm)
    return "-" if count is None else f"{count:.3g}"


def _done(outcomes: Outcomes, arm: str) -> Sequence[Outcome]:
    return [o for o in outcomes.of(arm) if o.state is State.DONE]


def _gap(outcome: Outcome) -> Curve:
    return {
        step: outcome.val[step] - loss
        for step, loss in outcome.subset.items()
        if step in outcome.val
    }
