"""Runs whose band keeps everything: the same computation as the baseline, so the same bits."""

from __future__ import annotations

from dataclasses import dataclass

from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.outcomes import Curve, Outcomes, State, curves_of
from pyllmc.report.panels import groups

# Settings that cannot change a dense run's numbers.
_WITHOUT_EFFECT = {
    "fc1_bandwidth", "fc2_bandwidth", "mask_init", "threads", "device",
    "sample_every", "sample_length", "checkpoint_every", "pattern", "mask_seed",
    "train_eval_batches", "execution",
}  # fmt: skip


@dataclass(frozen=True)
class Repeat:
    """One comparison of a run that keeps everything with its baseline, for one seed.

    `values` and `full_values` count the losses compared at the log's precision and in full.
    `difference` says where they first differ, None when they never do.
    """

    arm: Arm
    baseline: Arm
    seed: int | None
    values: int
    full_values: int
    difference: str | None


def dense_repeats(experiment: Experiment) -> list[tuple[Arm, Arm]]:
    """(arm, baseline) for every run that asks for what its baseline asks for, bands apart."""
    return [
        (arm, group.baseline)
        for group in groups(experiment)
        for arm in group.arms
        if not arm.sparse
        and not group.baseline.sparse
        and not arm.mlp.shape
        and _effective(arm) == _effective(group.baseline)
        and arm.data == group.baseline.data
    ]


def check_repeats(experiment: Experiment, outcomes: Outcomes) -> list[Repeat]:
    """Compares every dense repeat with its baseline, loss by loss, for each seed that has both.

    Losses of both splits at every step that both runs have reached; finished runs must also have
    the same steps.
    """
    logged = curves_of(experiment.losses)
    full = curves_of(experiment.full_losses)
    checks = []
    for arm, baseline in dense_repeats(experiment):
        for seed in experiment.seeds:
            states = {outcomes.at(name, seed).state for name in (arm.name, baseline.name)}
            if states & {State.MISSING, State.MISMATCHED}:
                continue
            both_done = states == {State.DONE}
            values, difference = _compare(logged, arm, baseline, seed, both_done)
            full_values, full_difference = _compare(full, arm, baseline, seed, False)
            checks.append(
                Repeat(arm, baseline, seed, values, full_values, difference or full_difference)
            )
    return checks


def _effective(arm: Arm) -> dict[str, object]:
    return {key: value for key, value in arm.settings.items() if key not in _WITHOUT_EFFECT}


def _compare(
    curves: dict[tuple[str, int | None, str], Curve],
    arm: Arm,
    baseline: Arm,
    seed: int | None,
    same_steps: bool,
) -> tuple[int, str | None]:
    compared = 0
    for split, name in (("val", "validation"), ("train", "training")):
        one = curves.get((arm.name, seed, split), {})
        other = curves.get((baseline.name, seed, split), {})
        steps = [step for step in one if step in other]
        for step in steps:
            # As text, nan equals nan and every other float only itself.
            if repr(one[step]) != repr(other[step]):
                text = f"{name} loss at step {step} is {one[step]!r} against {other[step]!r}"
                return compared, text
            compared += 1
        if same_steps and not len(steps) == len(one) == len(other):
            return compared, f"one has {len(one)} {name} losses, the other {len(other)}"
    return compared, None
