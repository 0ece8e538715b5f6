"""What a band is compared with so that it means something: the same number of entries elsewhere,
the same number of weights in a dense MLP, and the same model under other names (A/A)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Comparison, Family, Value, Verdict, compare, final_value
from pyllmc.report.inference import Weights
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import Group, distinct_labels
from pyllmc.report.rates import Tuning, tuning
from pyllmc.report.repeats import dense_repeats
from pyllmc.report.verdicts import method, verdict_text

# How far apart two numbers of weights may be and still count as equal.
EQUAL_WEIGHTS = 0.05
_AA = "band-permuted-hidden"
_AA_INTRO = (
    "Under random initialization a band whose hidden units are renamed is the same model: any "
    "difference is noise. If the method above found one, it or the runs would be broken."
)
# The settings in which a band and its controls differ by nature.
_PLACES = {"fc1_bandwidth", "fc2_bandwidth", "pattern", "mask_seed"}

_QUESTIONS: Mapping[str, tuple[str, Mapping[Verdict, str]]] = {
    "random": (
        "Is the band better than random places at equal density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, random places are better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown: nothing here says that the band's places matter",
        },
    ),
    "block": (
        "Is the band better than blocks at equal density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, blocks are better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "narrower": (
        "Is the band better than a smaller dense MLP with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, the smaller dense MLP is better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown: a smaller dense MLP may do as well",
        },
    ),
    "low-rank": (
        "Is the band better than a low-rank MLP with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No, the low-rank MLP is better: the band is shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "band-permuted-residual": (
        "Is locality what matters (the band against itself behind shuffled residual channels)?",
        {
            Verdict.BETTER: "Yes: breaking the locality is shown to cost",
            Verdict.WORSE: "No: without its locality the band is shown to be better",
            Verdict.NOT_SHOWN: "Not shown: breaking the locality made no difference that counts",
        },
    ),
    "init_scale": (
        "Is the band better when its first weights are scaled by 1/√density?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No: shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
    "wider": (
        "Is a wider MLP with a band better than the dense one with as many weights?",
        {
            Verdict.BETTER: "Yes: shown better",
            Verdict.WORSE: "No: shown worse",
            Verdict.NOT_SHOWN: "Not shown",
        },
    ),
}


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
        family = self.aa if control.question == _AA else self.family
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
            if a.mlp.pattern == _AA and _bandwidths(a) == _bandwidths(band)
            and _settings(a, _PLACES) == _settings(band, _PLACES)
        )  # fmt: skip
        if renamed:
            relabelled.append(Control(_AA, band, renamed))
    if not found and not relabelled:
        return None
    order = list(_QUESTIONS)
    found.sort(key=lambda control: order.index(control.question))
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


def section(made: Controls | None, outcomes: Outcomes, what: str) -> list[str]:
    """The questions, their comparisons and answers, and the A/A check. `what` names the loss."""
    if made is None:
        return []
    seeds = len(outcomes.experiment.seeds)
    labels = made.labels
    blocks = ["## Controls"]
    if made.found:
        blocks += [
            meaning(made, what)
            + (
                " The ± is about the seeds: random places stand for the draws that were run."
                if any(c.question == "random" for c in made.found) and seeds > 1
                else ""
            ),
            md.table(*table_of(made, made.found, seeds)),
        ]
        if made.family is not None:
            names = {c.key: labels[c.band.name] for c in made.found}
            blocks += method(made.family, outcomes.experiment, names, what="Δ of the controls")
        blocks.append(md.bullets(answers(made, seeds)))
    if made.relabelled:
        blocks += ["### The same model under other names (A/A)", _AA_INTRO]
        rows = [
            [
                labels[c.band.name],
                " and ".join(labels[a.name] for a in c.others),
                *_difference(c, made, seeds),
            ]
            for c in made.relabelled
        ]
        header = ["Band", "Relabelled", "Δ (nats)", *(["Verdict"] if seeds > 1 else [])]
        blocks.append(md.table(header, rows))
        blocks.append(_aa_verdict(made, seeds))
    return blocks


def meaning(made: Controls, what: str) -> str:
    """What a difference of the table is. `what` names the loss."""
    return (
        f"Δ is the band's {what} minus the control's (several draws: their mean). Below 0 the band "
        "is better."
        + (" Every run is the one at its configuration's best rate." if made.tuned else "")
    )


def table_of(
    made: Controls, shown: Sequence[Control], seeds: int
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a control."""
    header = ["Question", "Band", "Against", "MLP weights", "Δ (nats)"]
    rows = [
        [
            _QUESTIONS[c.question][0] if c.question != _AA else "The same under other names (A/A)",
            made.labels[c.band.name],
            " and ".join(made.labels[a.name] for a in c.others),
            _size(c),
            *_difference(c, made, seeds),
        ]
        for c in shown
    ]
    return [*header, *(["Verdict"] if seeds > 1 else [])], rows


def answers(made: Controls | None, seeds: int) -> list[str]:
    """One sentence a question. With one seed they describe the runs."""
    if made is None:
        return []
    labels = {name: md.escape(label) for name, label in made.labels.items()}
    lines = []
    for question in dict.fromkeys(c.question for c in made.found):
        parts = []
        for control in (c for c in made.found if c.question == question):
            text = _answer(control, made)
            if text:
                parts.append(f"{labels[control.band.name]}: {text}")
        if parts:
            scope = " (one seed: these runs only)" if seeds < 2 else ""
            lines.append(f"{_QUESTIONS[question][0]}{scope} {'; '.join(parts)}.")
    return lines


def alarm(made: Controls | None) -> list[str]:
    """The banner over a report whose A/A comparison shows an effect."""
    if made is None or not made.broken:
        return []
    names = md.listed([md.escape(made.labels[c.others[0].name]) for c in made.broken])
    return [
        f"**The method or the runs are broken: {names} only renames the hidden units, and yet an "
        "effect is found (see [Controls](#controls)).** One report in twenty would say so by "
        "chance; until it is explained, no verdict here can be trusted."
    ]


def _answer(control: Control, made: Controls) -> str:
    compared = made.compared(control)
    if compared is None:
        gap = made.plain(control)
        if gap is None:
            return ""
        side = "lower" if gap < 0 else "higher"
        return "equal" if gap == 0 else f"the band ends {abs(gap):.4f} nats {side}"
    verdict = {
        Verdict.WORSE_WITHIN: Verdict.WORSE,
        Verdict.AS_GOOD: Verdict.NOT_SHOWN,
    }.get(compared.verdict, compared.verdict)
    text = _QUESTIONS[control.question][1][verdict]
    if compared.verdict is Verdict.AS_GOOD:
        return f"Neither: {compared.verdict}"
    if compared.half_width is None:
        return f"{text} ({verdict_text(compared)})"
    return f"{text} ({md.nats(compared.nats, compared.half_width)} nats)"


def _aa_verdict(made: Controls, seeds: int) -> str:
    if seeds < 2:
        return (
            "One seed: the difference is one draw of the noise between runs that are alike, and no "
            "measure of it."
        )
    if made.broken:
        return (
            "**The method or the runs are broken: an effect was found where there is none.** (By "
            "chance this happens in one report of twenty.) No verdict of this report can be "
            "trusted until it is explained."
        )
    return "No effect is found, as it must be."


def _difference(control: Control, made: Controls, seeds: int) -> list[str]:
    compared = made.compared(control)
    if compared is None:
        plain = md.nats(made.plain(control))
        return [plain, *(["-"] if seeds > 1 else [])]
    return [md.nats(compared.nats, compared.half_width), verdict_text(compared)]


def _gaps(control: Control, outcomes: Outcomes, value: Value) -> tuple[float, ...]:
    """The differences of the seeds that have every loss in them."""
    gaps = []
    for seed in outcomes.experiment.seeds:
        losses = {arm: value(arm, seed) for arm in control.weights}
        if all(loss is not None for loss in losses.values()):
            gaps.append(sum(w * (losses[arm] or 0.0) for arm, w in control.weights.items()))
    return tuple(gaps)


def _size(control: Control) -> str:
    sizes = [control.band.mlp.weights, *(a.mlp.weights for a in control.others)]
    return " / ".join(dict.fromkeys(f"{size:,}" for size in sizes))


def _settings(arm: Arm, apart: set[str]) -> dict[str, object]:
    return {key: value for key, value in arm.settings.items() if key not in apart}


def _bandwidths(arm: Arm) -> Sequence[tuple[str, object]]:
    return [(name, band.bandwidth) for name, band in arm.bands.items()]


def _equal_weights(one: Arm, other: Arm) -> bool:
    return abs(one.mlp.weights - other.mlp.weights) <= EQUAL_WEIGHTS * other.mlp.weights
