"""What became of every run, its final loss, and its difference to another run, paired by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from pyllmc.report.inference import t_quantile
from pyllmc.report.inputs import Arm, Experiment, Trial

if TYPE_CHECKING:
    import pandas as pd

Curve = dict[int, float]  # losses by step, steps ascending


class State(StrEnum):
    """What became of a run. Only `done` enters comparisons."""

    DONE = "done"
    MISSING = "missing"
    UNFINISHED = "unfinished"
    DIVERGED = "diverged"
    MISMATCHED = "does not match the matrix"


@dataclass(frozen=True)
class Outcome:
    """A trial, judged. `why` says in a few words what a state other than done rests on.

    `val`, `train`, `test` and `subset` (the fixed part of the training data) are losses by step, as
    logged.
    """

    trial: Trial
    state: State
    why: str
    val: Curve
    train: Curve
    test: Curve
    subset: Curve

    @property
    def last_step(self) -> int | None:
        """The step of the last validation."""
        return max(self.val, default=None)

    @property
    def final(self) -> float | None:
        """The last validation loss of a run that is done."""
        return self.val[max(self.val)] if self.state is State.DONE else None


@dataclass(frozen=True)
class Sample:
    """Numbers of one kind, one a seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n - 1), None for one value."""
        return stdev(self.values) if self.n > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half the 95 % t interval of the mean, None for one value."""
        return (
            None if self.sd is None else t_quantile(0.975, self.n - 1) * self.sd / math.sqrt(self.n)
        )


class Spread(NamedTuple):
    """Several seeds' values at one step."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Final loss of one arm minus that of another, paired by seed; `base` is the other's."""

    nats: Sample
    base: Sample

    @property
    def percent(self) -> float:
        """Mean difference as a percentage of the other's mean loss."""
        return 100 * self.nats.mean / self.base.mean


class Outcomes:
    """Every trial of an experiment, judged."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        curves = curves_of(experiment.losses)
        self.all = tuple(
            _judge(experiment.arm(trial.arm), trial, curves) for trial in experiment.trials
        )
        self._by_cell = {(o.trial.arm, o.trial.seed): o for o in self.all}

    def of(self, arm: str) -> list[Outcome]:
        """The outcomes of one arm, in the order of the seeds."""
        return [self._by_cell[arm, seed] for seed in self.experiment.seeds]

    def at(self, arm: str, seed: int | None) -> Outcome:
        """The outcome of one cell."""
        return self._by_cell[arm, seed]

    def final(self, arm: str) -> Sample | None:
        """Final losses of the arm's finished runs, None when there are none."""
        values = tuple(o.final for o in self.of(arm) if o.final is not None)
        return Sample(values) if values else None

    def test(self, arm: str) -> Sample | None:
        """Last test losses of the arm's finished runs, None when there are none."""
        done = [o.test for o in self.of(arm) if o.state is State.DONE and o.test]
        return Sample(tuple(curve[max(curve)] for curve in done)) if done else None

    def paired(self, *arms: str) -> list[tuple[float, ...]]:
        """Final losses of `arms`, one tuple a seed for which all are done at the same step.

        None at all when one of them diverged under some seed: without it the rest would flatter.
        """
        found: list[tuple[float, ...]] = []
        if any(o.state is State.DIVERGED for arm in arms for o in self.of(arm)):
            return found
        for seed in self.experiment.seeds:
            cells = [self.at(arm, seed) for arm in arms]
            finals = tuple(cell.final for cell in cells if cell.final is not None)
            if len(finals) == len(cells) and len({cell.last_step for cell in cells}) == 1:
                found.append(finals)
        return found

    def difference(self, arm: str, against: str) -> Difference | None:
        """Paired by seed; None when no seed has both, and when one of them diverged under some."""
        pairs = self.paired(arm, against)
        if not pairs:
            return None
        return Difference(
            Sample(tuple(a - b for a, b in pairs)), Sample(tuple(b for _, b in pairs))
        )

    def shown(self, arm: str) -> list[Outcome]:
        """The arm's finished runs, or if none is, all that are not another run's."""
        return [o for o in self.of(arm) if o.state is State.DONE] or [
            o for o in self.of(arm) if o.state is not State.MISMATCHED
        ]

    def curve(self, arm: str) -> dict[int, Spread]:
        """Validation losses by step over the runs that are shown."""
        return spread_of([outcome.val for outcome in self.shown(arm)])

    def gap(self, arm: str, against: str) -> dict[int, Spread]:
        """Differences to `against` by step, paired by seed."""
        return spread_of(self.gaps(arm, against))

    def gaps(self, arm: str, against: str) -> list[Curve]:
        """The same, one curve a seed."""
        return [
            {step: loss - other.val[step] for step, loss in one.val.items() if step in other.val}
            for one, other in zip(self.of(arm), self.of(against), strict=True)
            if State.MISMATCHED not in (one.state, other.state)
        ]


def curves_of(losses: pd.DataFrame) -> dict[tuple[str, int | None, str], Curve]:
    """A log table as one curve for each run, seed and split."""
    curves: dict[tuple[str, int | None, str], Curve] = {}
    for (run, seed, split), rows in losses.groupby(
        ["run", "seed", "split"], observed=True, dropna=False
    ):
        curves[*cell_key(run, seed), str(split)] = dict(
            zip(rows["step"].tolist(), rows["loss"].tolist(), strict=True)
        )
    return curves


def cell_key(run: object, seed: object) -> tuple[str, int | None]:
    """A log table's run and seed as plain values; a run without a seed has pandas' missing one."""
    return str(run), int(seed) if isinstance(seed, Integral) else None


def spread_of(curves: list[Curve]) -> dict[int, Spread]:
    """Mean and range by step of the curves that have it."""
    values: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve.items():
            values.setdefault(step, []).append(value)
    return {
        step: Spread(fmean(found), min(found), max(found)) for step, found in sorted(values.items())
    }


def _judge(arm: Arm, trial: Trial, curves: dict[tuple[str, int | None, str], Curve]) -> Outcome:
    val = curves.get((trial.arm, trial.seed, "val"), {})
    train = curves.get((trial.arm, trial.seed, "train"), {})
    test = curves.get((trial.arm, trial.seed, "test"), {})
    subset = curves.get((trial.arm, trial.seed, "train_subset"), {})

    def outcome(state: State, why: str) -> Outcome:
        return Outcome(trial, state, why, val, train, test, subset)

    said = f" (recorded as {trial.record}{': ' if trial.message else ''}{trial.message})"
    if trial.record in ("done", "missing", "unrecorded"):
        said = ""
    if trial.record == "changed":
        return outcome(State.MISMATCHED, f"{trial.log} was written to after its run had ended")
    if not val and not train:
        return outcome(State.MISSING, f"no losses in {trial.log}{said}")
    pattern = trial.settings.get("pattern", arm.mlp.pattern)
    if arm.sparse and pattern != arm.mlp.pattern:
        return outcome(
            State.MISMATCHED,
            f"{trial.log} was made with pattern {pattern}, the matrix says {arm.mlp.pattern}",
        )
    for name, band in arm.bands.items():
        if band.layers > 1:
            continue
        for what, wanted in (("bandwidth", band.bandwidth), ("kept", band.kept)):
            logged = trial.settings.get(f"{name}_{what}", wanted)
            if isinstance(logged, int) and logged != wanted:
                return outcome(
                    State.MISMATCHED,
                    f"{trial.log} was made with {name}_{what} {logged}, the matrix says {wanted}",
                )
    bad = [step for c in (train, val) for step, value in c.items() if not math.isfinite(value)]
    if bad:
        return outcome(State.DIVERGED, f"the loss is not finite at step {min(bad)}")
    last = max([*val, *train])
    if trial.record == "diverged":
        return outcome(State.DIVERGED, f"stopped at step {last}{said}")
    asked = trial.settings.get("steps", arm.settings.get("steps", 0))
    reached = bool(val) and 0 < asked <= max(val)
    if (trial.record == "unrecorded" and reached) or (trial.record == "done" and val):
        return outcome(State.DONE, "")
    return outcome(State.UNFINISHED, f"the log ends at step {last} of {asked}{said}")
