"""The learning rate as an axis: which rate suits each configuration, and what is left of a
difference at one rate when every configuration has its own best."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import commonprefix

from pyllmc.report import markdown as md
from pyllmc.report.comparisons import Comparison, Family, Value, Verdict, against, compare
from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.outcomes import Outcomes, Sample, State
from pyllmc.report.panels import Group
from pyllmc.report.repeats import dense_repeats

_RATE_AT_END = re.compile(r"[\s,;:@(/·-]*((lr|learning rate|rate)[\s=]*[\d.]*(e-?\d*)?)?$", re.I)


@dataclass(frozen=True)
class Configuration:
    """Arms that differ in their learning rate only, by that rate, ascending."""

    label: str
    arms: Mapping[float, Arm]


@dataclass(frozen=True)
class Tuned:
    """A configuration at its best rate (lowest mean validation loss), and against the baseline at
    its own. `single` holds the differences at equal rates, by rate, on validation."""

    configuration: Configuration
    rate: float
    at_edge: bool
    single: Mapping[float, Difference]
    tuned: Difference | None

    @property
    def gain_is_tuning(self) -> bool:
        """Better at some rate that both were run at, and not better when each has its best."""
        gained = any(difference.better for difference in self.single.values())
        return gained and self.tuned is not None and not self.tuned.better


@dataclass(frozen=True)
class Difference:
    """A difference of losses to the baseline's: judged with several seeds, else a plain number."""

    gaps: tuple[float, ...]  # by seed
    compared: Comparison | None

    @property
    def nats(self) -> float:
        """The plain mean over the seeds."""
        return Sample(self.gaps).mean

    @property
    def better(self) -> bool:
        """Shown better; with one seed: lower."""
        if self.compared is None:
            return self.nats < 0
        return self.compared.verdict is Verdict.BETTER

    @property
    def number(self) -> str:
        """Nats, with the interval where there is one."""
        if self.compared is None:
            return md.nats(self.nats)
        return md.nats(self.compared.nats, self.compared.half_width)

    @property
    def text(self) -> str:
        """The number, with the verdict where there are several seeds."""
        return self.number + ("" if self.compared is None else f" ({self.compared.verdict})")


@dataclass(frozen=True)
class Tuning:
    """Every configuration of an experiment with a learning-rate axis. `on_test` says which losses
    the tuned comparison is of."""

    baseline: Configuration
    others: tuple[Tuned, ...]
    baseline_rate: float
    baseline_at_edge: bool
    unfinished: tuple[Configuration, ...]
    family: Family | None
    on_test: bool

    @property
    def group(self) -> Group:
        """Every configuration at its best rate, against the baseline at its own."""
        return Group(
            self.baseline.arms[self.baseline_rate],
            tuple(t.configuration.arms[t.rate] for t in self.others),
        )

    @property
    def what(self) -> str:
        """The loss that tuned configurations are compared by."""
        return "test loss" if self.on_test else "final validation loss"

    def value(self, outcomes: Outcomes) -> Value:
        """That loss, by arm and seed."""
        return _Value(outcomes, self.on_test)

    @property
    def rates(self) -> list[float]:
        """Every rate that occurs, ascending."""
        configurations = (self.baseline, *(t.configuration for t in self.others), *self.unfinished)
        return sorted({rate for c in configurations for rate in c.arms})


def at_equal_rates(arms: tuple[Arm, ...]) -> dict[str, str]:
    """The baseline of every arm: the one that it names, at the arm's own rate if that was run."""
    twins = {(_key(arm), arm.settings.get("learning_rate")): arm.name for arm in arms}
    by_name = {arm.name: arm for arm in arms}
    found = {}
    for arm in arms:
        base = by_name[arm.baseline]
        twin = twins.get((_key(base), arm.settings.get("learning_rate")), base.name)
        found[arm.name] = twin
    return found


def tuning(experiment: Experiment, outcomes: Outcomes) -> Tuning | None:
    """None unless the baseline was run at several rates."""
    repeats = {arm.name for arm, _ in dense_repeats(experiment)}
    every = configurations(experiment)
    base = next(c for c in every if experiment.arm(experiment.baseline) in c.arms.values())
    if len(base.arms) < 2 or (base_rate := _best_rate(base, outcomes)) is None:
        return None
    base_arm = base.arms[base_rate]
    others = [
        c
        for c in every
        if c is not base
        and all(arm.data == base_arm.data and arm.name not in repeats for arm in c.arms.values())
    ]
    best = {c.label: rate for c in others if (rate := _best_rate(c, outcomes)) is not None}
    ready = [c for c in others if c.label in best]
    chosen = {c.label: c.arms[best[c.label]] for c in ready}
    on_test = all(outcomes.test(arm.name) for arm in (base_arm, *chosen.values()))
    value = _Value(outcomes, on_test)
    family = compare(
        outcomes,
        {label: {arm.name: 1.0, base_arm.name: -1.0} for label, arm in chosen.items()},
        value,
    )
    single = {
        rate: against(outcomes, [c.arms[rate].name for c in ready if rate in c.arms], arm.name)
        for rate, arm in base.arms.items()
    }
    rows = []
    for configuration in ready:
        arm = chosen[configuration.label]
        at_one_rate = {
            rate: difference
            for rate, one in configuration.arms.items()
            if rate in base.arms
            and (difference := _difference(
                _Value(outcomes, False), one.name, base.arms[rate].name, experiment,
                single[rate], one.name,
            ))
        }  # fmt: skip
        rate = best[configuration.label]
        rows.append(
            Tuned(
                configuration,
                rate,
                _is_edge(rate, configuration),
                at_one_rate,
                _difference(
                    value, arm.name, base_arm.name, experiment, family, configuration.label
                ),
            )
        )
    return Tuning(
        base,
        tuple(rows),
        base_rate,
        _is_edge(base_rate, base),
        tuple(c for c in others if c.label not in best),
        family,
        on_test,
    )


def configurations(experiment: Experiment) -> list[Configuration]:
    """The arms of an experiment, those that differ in nothing but their rate taken together."""
    grouped: dict[str, dict[float, Arm]] = {}
    for arm in experiment.arms:
        rate = float(arm.settings.get("learning_rate", math.nan))
        grouped.setdefault(_key(arm), {}).setdefault(rate, arm)
    return [
        Configuration(_common_label(list(arms.values())), dict(sorted(arms.items())))
        for arms in grouped.values()
    ]


class _Value:
    """Final test or validation losses; infinite for a diverged run, None for an unfinished one."""

    def __init__(self, outcomes: Outcomes, on_test: bool) -> None:
        self.outcomes, self.on_test = outcomes, on_test

    def __call__(self, arm: str, seed: int | None) -> float | None:
        outcome = self.outcomes.at(arm, seed)
        if outcome.state is State.DIVERGED:
            return math.inf
        if self.on_test and outcome.state is State.DONE:
            return outcome.test[max(outcome.test)] if outcome.test else None
        return outcome.final


def _difference(
    value: _Value, arm: str, base: str, experiment: Experiment, family: Family | None, name: str
) -> Difference | None:
    gaps = []
    for seed in experiment.seeds:
        one, other = value(arm, seed), value(base, seed)
        if one is not None and other is not None and math.isfinite(one - other):
            gaps.append(one - other)
    if not gaps:
        return None
    compared = family.comparisons.get(name) if family else None
    return Difference(tuple(gaps), compared)


def _key(arm: Arm) -> str:
    settings = {key: value for key, value in arm.settings.items() if key != "learning_rate"}
    return repr((sorted(settings.items()), sorted(arm.data.items()), arm.bands, arm.mlp))


def _best_rate(configuration: Configuration, outcomes: Outcomes) -> float | None:
    complete = {}
    for rate, arm in configuration.arms.items():
        final = outcomes.final(arm.name)
        if final is not None and final.n == len(outcomes.experiment.seeds):
            complete[rate] = final.mean
    return min(complete, key=lambda rate: complete[rate], default=None)


def _is_edge(rate: float, configuration: Configuration) -> bool:
    return len(configuration.arms) > 1 and rate in (
        min(configuration.arms),
        max(configuration.arms),
    )


def _common_label(arms: list[Arm]) -> str:
    if len(arms) == 1:
        return arms[0].label
    labels = [arm.label for arm in arms]
    common = commonprefix(labels)  # noqa: RUF071 (characters are meant, not folders)
    return common if common in labels else _RATE_AT_END.sub("", common) or labels[0]
