"""What a band is compared with so that it means something: the same number of entries elsewhere,
the same number of weights in a dense MLP, and the same model under other names (A/A)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pyllmc.report.comparisons import Comparison, Family, Value, Verdict, compare, final_value
from pyllmc.report.inference import Weights
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, distinct_labels
from pyllmc.report.rates import Tuning, tuning
from pyllmc.report.repeats import dense_repeats

# How far apart two numbers of weights may be and still count as equal.
EQUAL_WEIGHTS = 0.05
AA = "band-permuted-hidden"
# The settings in which a band and its controls differ by nature.
_PLACES = {"fc1_bandwidth", "fc2_bandwidth", "pattern", "mask_seed"}
# What a band is asked, in the order of the report.
QUESTIONS = (
    "random", "block", "narrower", "low-rank", "band-permuted-residual", "init_scale", "wider",
)  # fmt: skip


@dataclass(frozen=True)
class Control:
    """One band and what it is set against: `others` are several draws of one thing."""

    question: str
    band: Arm
    others: tuple[Arm, ...]

    @property
    def key(self) -> str:
        """Names the comparison in its family."""
        return f"{self.question} {self.band.name}"

    @property
    def weights(self) -> Weights:
        """The band's loss minus the mean of the others'."""
        return {self.band.name: 1.0, **{a.name: -1.0 / len(self.others) for a in self.others}}


@dataclass(frozen=True)
class Controls:
    """The controls of a group, judged. `relabelled` are the A/A comparisons, a family apart."""

    found: tuple[Control, ...]
    family: Family | None
    relabelled: tuple[Control, ...]
    aa: Family | None
    gaps: Mapping[str, tuple[float, ...]]  # by seed, of controls in which none diverged
    labels: Mapping[str, str]
    tuned: bool

    def plain(self, control: Control) -> float | None:
        """The mean difference; None when a seed diverged or none has every loss in it."""
        gaps = self.gaps.get(control.key)
        return fmean(gaps) if gaps else None

    def compared(self, control: Control) -> Comparison | None:
        """The judged difference, None with one seed."""
        family = self.aa if control.question == AA else self.family
        return family.comparisons.get(control.key) if family else None

    @property
    def broken(self) -> list[Control]:
        """A/A comparisons that show an effect, where there can be none."""
        none = (Verdict.NOT_SHOWN, Verdict.AS_GOOD)
        return [
            control
            for control in self.relabelled
            if (compared := self.compared(control)) is not None and compared.verdict not in none
        ]


def controls(
    group: Group, outcomes: Outcomes, value: Value | None = None, *, tuned: bool = False
) -> Controls | None:
    """None where the group has no control.

    `value` is the loss that is compared, the final validation loss when absent. In a `tuned` group
    every arm has its own best learning rate; renamed arms are still taken at the band's.
    """
    pool = [a for a in outcomes.experiment.arms if a.data == group.baseline.data]
    apart = _PLACES | ({"learning_rate"} if tuned else set())
    found: list[Control] = []
    relabelled: list[Control] = []
    for band in group.arms:
        if not (band.sparse and band.mlp.pattern == "band"):
            continue
        alike = [a for a in group.arms if _settings(a, apart) == _settings(band, apart)]
        if band.mlp.shape == "wider" and _equal_weights(band, group.baseline):
            found.append(Control("wider", band, (group.baseline,)))
        if band.mlp.shape:
            continue
        same = [a for a in alike if a.sparse and _bandwidths(a) == _bandwidths(band)]
        for question in ("random", "block", "band-permuted-residual"):
            others = tuple(a for a in same if a.mlp.pattern == question and not a.mlp.shape)
            if others:
                found.append(Control(question, band, others))
        for question in ("narrower", "low-rank"):
            others = tuple(
                a
                for a in alike
                if a.mlp.shape == question and not a.sparse and _equal_weights(a, band)
            )
            if others:
                found.append(Control(question, band, others))
        plain = tuple(
            a
            for a in group.arms
            if band.settings.get("init_scale") and not a.settings.get("init_scale")
            and a.mlp == band.mlp and _bandwidths(a) == _bandwidths(band)
            and _settings(a, apart | {"init_scale"}) == _settings(band, apart | {"init_scale"})
        )  # fmt: skip
        if plain:
            found.append(Control("init_scale", band, plain))
        renamed = tuple(
            a
            for a in pool
            if a.mlp.pattern == AA and _bandwidths(a) == _bandwidths(band)
            and _settings(a, _PLACES) == _settings(band, _PLACES)
        )  # fmt: skip
        if renamed:
            relabelled.append(Control(AA, band, renamed))
    if not found and not relabelled:
        return None
    found.sort(key=lambda control: QUESTIONS.index(control.question))
    value = value or final_value(outcomes, group.baseline.name)
    same_as_baseline = {arm.name for arm, _ in dense_repeats(outcomes.experiment)}
    everyone = [a for a in (group.baseline, *group.arms) if a.name not in same_as_baseline]
    also = [a.name for a in everyone]
    named = (*everyone, *(a for c in relabelled for a in c.others if a not in everyone))
    return Controls(
        tuple(found),
        compare(outcomes, {c.key: c.weights for c in found}, value, also),
        tuple(relabelled),
        compare(outcomes, {c.key: c.weights for c in relabelled}, value, also),
        {
            c.key: gaps
            for c in (*found, *relabelled)
            if all(map(math.isfinite, gaps := _gaps(c, outcomes, value)))
        },
        distinct_labels(named),
        tuned,
    )


def tuned_and_controls(
    group: Group, outcomes: Outcomes
) -> tuple[Tuning | None, Controls | None, str]:
    """Both parts of a report, and the loss that controls are compared by: where configurations
    were tuned, every one at its best rate."""
    tuned = tuning(outcomes.experiment, outcomes)
    if tuned is None:
        return None, controls(group, outcomes), "final validation loss"
    made = controls(tuned.group, outcomes, tuned.value(outcomes), tuned=True)
    return tuned, made, tuned.what


def _gaps(control: Control, outcomes: Outcomes, value: Value) -> tuple[float, ...]:
    """The differences of the seeds that have every loss in them."""
    gaps = []
    for seed in outcomes.experiment.seeds:
        losses = {arm: value(arm, seed) for arm in control.weights}
        if all(loss is not None for loss in losses.values()):
            gaps.append(sum(w * (losses[arm] or 0.0) for arm, w in control.weights.items()))
    return tuple(gaps)


def _settings(arm: Arm, apart: set[str]) -> dict[str, object]:
    return {key: value for key, value in arm.settings.items() if key not in apart}


def _bandwidths(arm: Arm) -> Sequence[tuple[str, object]]:
    return [(name, band.bandwidth) for name, band in arm.bands.items()]


def _equal_weights(one: Arm, other: Arm) -> bool:
    return abs(one.mlp.weights - other.mlp.weights) <= EQUAL_WEIGHTS * other.mlp.weights
