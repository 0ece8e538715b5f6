"""Verdicts on differences between arms over several seeds.

Arms that finished under every seed they have enter the additive model of pyllmc.report.inference
together. A diverged run is infinitely bad: a difference that involves one has no interval and is
judged by counting seeds. The chance of any wrong "shown" in a family of m differences is at most
5 %: m' intervals share the level 1 − 0.05 m'/m, each count has 0.05/m.

One variance for all is the model's weakest assumption: differences with an arm whose own losses
vary more than the others' (pyllmc.report.inference.unsteady_arms) get their own paired t interval
at 0.05/m where that is wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import stdev

from scipy import special

from pyllmc.report.inference import (
    Fit,
    Intervals,
    Weights,
    fit,
    intervals,
    t_quantile,
    unsteady_arms,
)
from pyllmc.report.outcomes import Outcomes, State

ERROR_RATE = 0.05
POWER = 0.8

Value = Callable[[str, int | None], float | None]


class Verdict(StrEnum):
    """What a difference of losses shows; lower is better."""

    BETTER = "shown better"
    WORSE = "shown worse"
    WORSE_WITHIN = "shown worse, by less than the margin"
    AS_GOOD = "as good as, within the margin"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class Comparison:
    """One difference of final losses: Σ weight · loss, below 0 when the weighted arm is better.

    `estimate` and `half_width` (nats; None without an interval) come from the additive model, the
    latter from the difference's own spread when `own_spread` is set (an arm in it is unsteady);
    `detectable` is the true difference that would have been shown with probability POWER. `mean`
    is the plain mean over the seeds with finite values, None when there is none. `worse`, `better`
    count seeds; in `diverged` of the `seeds` an arm that should be low diverged, in
    `other_diverged` one that it is compared with.
    """

    weights: Weights
    seeds: int
    worse: int
    better: int
    diverged: int
    other_diverged: int
    mean: float | None
    estimate: float | None
    half_width: float | None
    detectable: float | None
    own_spread: bool
    verdict: Verdict

    @property
    def nats(self) -> float | None:
        """The model's estimate, else the plain mean."""
        return self.mean if self.estimate is None else self.estimate


@dataclass(frozen=True)
class Family:
    """Differences that are judged together. `intervals` is None when none could be made."""

    comparisons: Mapping[str, Comparison]
    intervals: Intervals | None
    seeds: int

    @property
    def smallest_shown(self) -> float | None:
        """The smallest observed difference that every interval would have kept off 0."""
        return None if self.intervals is None else max(self.intervals.half_widths)

    @property
    def detectable(self) -> float | None:
        """The true difference that each comparison would have shown with probability POWER."""
        return None if self.intervals is None else max(self.intervals.detectable(POWER))

    def having(self, *verdicts: Verdict) -> list[str]:
        """Names of the comparisons with one of these verdicts."""
        return [name for name, c in self.comparisons.items() if c.verdict in verdicts]


def against(outcomes: Outcomes, arms: Sequence[str], baseline: str) -> Family | None:
    """Each arm minus the baseline; None with one seed or nothing to compare."""
    differences = {arm: {arm: 1.0, baseline: -1.0} for arm in arms}
    return compare(outcomes, differences, final_value(outcomes, baseline))


def final_value(outcomes: Outcomes, reference: str) -> Value:
    """Final validation losses: infinite for a diverged run, None for what did not end or ended at
    another step than the reference arm."""

    def value(arm: str, seed: int | None) -> float | None:
        one, other = outcomes.at(arm, seed), outcomes.at(reference, seed)
        if one.state is State.DIVERGED:
            return math.inf
        if other.state is State.DONE and one.last_step != other.last_step:
            return None
        return one.final

    return value


def compare(
    outcomes: Outcomes,
    differences: Mapping[str, Weights],
    value: Value,
    also: Sequence[str] = (),
) -> Family | None:
    """Judges every difference; None with one seed, or when no seed has both sides of any.

    The arms `also` are in no difference, but tell how large the residuals are.
    """
    experiment = outcomes.experiment
    if experiment.one_seed:
        return None
    named = (arm for weights in differences.values() for arm in weights)
    arms = list(dict.fromkeys((*named, *also)))
    table: dict[str, dict[object, float]] = {}
    for arm in arms:
        found = {seed: value(arm, seed) for seed in experiment.seeds}
        table[arm] = {seed: loss for seed, loss in found.items() if loss is not None}
    rows = {name: _row(weights, table) for name, weights in differences.items()}
    judged = {name: row for name, row in rows.items() if row}
    if not judged:
        return None
    model, with_interval = _model(differences, table, list(judged), also)
    finite = {arm: table[arm] for arm in model.arms} if model else {}
    unsteady = unsteady_arms(finite, ERROR_RATE)
    level = 1 - ERROR_RATE * len(with_interval) / len(judged)
    found_intervals = None
    if model is not None and with_interval:
        wanted = [differences[name] for name in with_interval]
        found_intervals = intervals(model, wanted, level)
    made = {}
    for name, row in judged.items():
        at = with_interval.index(name) if found_intervals and name in with_interval else None
        made[name] = _judge(
            differences[name],
            row,
            table,
            found_intervals,
            at,
            len(judged),
            experiment.margin,
            unsteady,
        )
    return Family(made, found_intervals, len(experiment.seeds))


def _row(weights: Weights, table: Mapping[str, Mapping[object, float]]) -> dict[object, float]:
    """The difference by seed, for seeds that have every loss in it; ±inf when a run diverged."""
    seeds = [s for s in table[next(iter(weights))] if all(s in table[arm] for arm in weights)]
    row = {}
    for seed in seeds:
        terms = [weight * table[arm][seed] for arm, weight in weights.items()]
        both = math.inf in terms and -math.inf in terms
        row[seed] = 0.0 if both else sum(terms)
    return row


def _model(
    differences: Mapping[str, Weights],
    table: Mapping[str, Mapping[object, float]],
    judged: list[str],
    also: Sequence[str],
) -> tuple[Fit | None, list[str]]:
    """The additive model, and the names of the differences that it can estimate."""
    finite = {arm for arm, losses in table.items() if losses and math.inf not in losses.values()}
    names = [name for name in judged if all(arm in finite for arm in differences[name])]
    used = {arm for name in names for arm in differences[name]} | finite.intersection(also)
    model = fit({arm: table[arm] for arm in table if arm in used})
    if model is None:
        return None, []
    return model, [name for name in names if model.can_estimate(differences[name])]


def _judge(
    weights: Weights,
    row: Mapping[object, float],
    table: Mapping[str, Mapping[object, float]],
    found: Intervals | None,
    at: int | None,
    family_size: int,
    margin: float | None,
    unsteady: set[str],
) -> Comparison:
    worse, better = (sum(sign * x > 0 for x in row.values()) for sign in (1, -1))
    plus, minus = (
        sum(any(table[a][s] == math.inf for a, w in weights.items() if sign * w > 0) for s in row)
        for sign in (1, -1)
    )
    finite = [x for x in row.values() if math.isfinite(x)]
    estimate = half_width = detectable = None
    own_spread = False
    if found is not None and at is not None:
        estimate, half_width = found.estimates[at], found.half_widths[at]
        detectable = found.detectable(POWER)[at]
        if len(row) > 1 and not unsteady.isdisjoint(weights):
            half_width, own_spread = (
                max(half_width, _own_half_width(list(row.values()), family_size)),
                True,
            )
        verdict = judge_interval(estimate, half_width, margin)
    else:
        verdict = judge_count(worse, better, ERROR_RATE / family_size)
    return Comparison(
        weights, len(row), worse, better, plus, minus,
        sum(finite) / len(finite) if finite else None,
        estimate, half_width, detectable, own_spread, verdict,
    )  # fmt: skip


def _own_half_width(row: Sequence[float], family_size: int) -> float:
    """Half the paired t interval at 0.05/m."""
    quantile = t_quantile(1 - ERROR_RATE / (2 * family_size), len(row) - 1)
    return quantile * stdev(row) / math.sqrt(len(row))


def judge_interval(estimate: float, half_width: float, margin: float | None) -> Verdict:
    """The verdict of an interval; `margin` (nats) is what counts as no worse."""
    low, high = estimate - half_width, estimate + half_width
    if high < 0:
        return Verdict.BETTER
    if low > 0:
        within = margin is not None and high < margin
        return Verdict.WORSE_WITHIN if within else Verdict.WORSE
    return Verdict.AS_GOOD if margin is not None and high < margin else Verdict.NOT_SHOWN


def judge_count(worse: int, better: int, error_rate: float) -> Verdict:
    """The verdict of a two-sided sign test over seeds."""
    total = worse + better
    if total == 0 or min(1.0, 2 * special.bdtr(min(worse, better), total, 0.5)) > error_rate:
        return Verdict.NOT_SHOWN
    return Verdict.WORSE if worse > better else Verdict.BETTER
