"""What a run costs: training arithmetic as written and as executed, memory, time; and the loss set
against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import numpy as np

from pyllmc.models.shape import TRAINING_FLOPS_PER_MAC
from pyllmc.report import markdown as md
from pyllmc.report.arithmetic import model_macs
from pyllmc.report.inputs import Arm, Experiment, Trial
from pyllmc.report.outcomes import Outcome, Outcomes, State
from pyllmc.report.panels import Group, distinct_labels

METHOD = (
    "FLOPs of a training step: 6 for every multiply-add of a forward pass (2 each, and backward "
    "does twice as many): per token and layer 4 C² in attention's matrices, (T + 1) C in causal "
    "attention and the weights of the MLP, and C V in the output head. Needed: counts kept weights "
    "only. Executed: what the program computes; with masks that is the dense product, whatever "
    "they remove."
)
TILES = (
    "A band that is multiplied alone counts the pieces that hold it: 32 hidden units each with "
    "every channel that one of them sees, and in the products that sum over hidden units 16 "
    "channels each with every hidden unit that one of them sees (a GPU's kernels work on wider "
    "ones and do more); and the whole matrix where they would save too little."
)


@dataclass(frozen=True)
class Cost:
    """One arm's training. `tiles` is whether bands are multiplied alone; `step_ms` the median over
    steps and runs that had their machine to themselves (None: no such run); `memory` in bytes, None
    when no run logged it."""

    needed: float
    executed: float
    tiles: bool
    steps: int
    memory: int | None
    step_ms: float | None
    machines: tuple[str, ...]


def cost(experiment: Experiment, arm: Arm) -> Cost:
    """The cost of an arm, from its settings and its runs' own words."""
    trials = [trial for trial in experiment.trials if trial.arm == arm.name]
    used = _used(arm, trials)
    tokens = int(used.get("accumulate") or 1)
    for key in ("batch_size", "sequence_length"):
        tokens *= int(used.get(key) or 0)
    times = [ms for trial in trials if trial.alone for ms in _step_times(trial)]
    memory = [int(t.settings["memory_bytes"]) for t in trials if t.settings.get("memory_bytes")]
    tiles = used.get("execution") == "band"
    return Cost(
        _flops(experiment, arm.mlp.weights, used) * tokens,
        _flops(experiment, arm.mlp.band_macs if tiles else arm.mlp.stored, used) * tokens,
        tiles,
        int(used.get("steps") or 0),
        max(memory, default=None),
        median(times) if times else None,
        tuple(dict.fromkeys(t.machine for t in trials if t.alone and t.machine)),
    )


def against_flops(experiment: Experiment, outcomes: Outcomes, arm: Arm) -> dict[float, float]:
    """Mean validation loss by executed training FLOPs, over the finished runs."""
    each = cost(experiment, arm).executed
    curve = outcomes.curve(arm.name)
    return {step * each: spread.mean for step, spread in curve.items()} if each else {}


def against_time(outcomes: Outcomes, arm: Arm) -> dict[float, float]:
    """Mean validation loss by mean seconds of training, over finished runs that were alone."""
    runs = [o for o in outcomes.of(arm.name) if o.state is State.DONE and o.trial.alone]
    steps = [step for step in (runs[0].val if runs else ()) if all(_known(o, step) for o in runs)]
    return {
        fmean(_seconds(o, step) for o in runs): fmean(o.val[step] for o in runs) for step in steps
    }


def section(group: Group, outcomes: Outcomes) -> list[str]:
    """Arithmetic, memory and time of every arm, with the loss at equal cost where costs differ."""
    experiment = outcomes.experiment
    arms = (group.baseline, *group.arms)
    costs = {arm.name: cost(experiment, arm) for arm in arms}
    if not any(c.executed for c in costs.values()):
        return []
    labels = distinct_labels(arms)
    base = costs[group.baseline.name]
    timed = any(c.step_ms is not None for c in costs.values())
    several = len({machine for c in costs.values() for machine in c.machines}) > 1
    at_flops = _at_equal({a.name: against_flops(experiment, outcomes, a) for a in arms})
    at_time = _at_equal({a.name: against_time(outcomes, a) for a in arms})
    rows = []
    for arm in arms:
        c = costs[arm.name]
        row = [
            labels[arm.name],
            md.percent(arm.density),
            _flop_text(c.needed, base.executed),
            _flop_text(c.executed, base.executed),
            "-" if c.memory is None else f"{c.memory / 2**20:,.1f}",
        ]
        if timed:
            row.append("-" if c.step_ms is None else f"{c.step_ms:.1f}")
        if at_flops:
            row.append(_loss(at_flops[1].get(arm.name)))
        if at_time:
            row.append(_loss(at_time[1].get(arm.name)))
        rows.append([*row, *([md.listed(c.machines) if c.machines else "-"] if several else [])])
    header = ["Config", "Density", "FLOPs a step, needed", "executed", "Memory (MiB)"]
    header += ["ms a step"] if timed else []
    header += [f"Val loss at {at_flops[0]:.2e} FLOPs"] if at_flops else []
    header += [f"Val loss at {at_time[0]:,.0f} s"] if at_time else []
    return [
        md.table([*header, *(["Machine"] if several else [])], rows),
        " ".join([METHOD, *_notes(costs, bool(at_flops), timed, several)]),
    ]


def differs(values: Mapping[str, Mapping[float, float]]) -> bool:
    """Whether the arms do not all end at the same cost, so that a chart against it says more than
    one against steps."""
    return len({max(curve) for curve in values.values() if curve}) > 1


def _notes(costs: Mapping[str, Cost], at_flops: bool, timed: bool, several: bool) -> list[str]:
    notes = [TILES] if any(c.tiles for c in costs.values()) else []
    if not at_flops:
        notes.append(
            "All runs execute the same arithmetic, so loss against FLOPs is loss against steps."
        )
    if not timed:
        notes.append(
            "No time is shown: no run is known to have had its machine to itself, and a time "
            "measured beside other work says little."
        )
    elif not several:
        machines = [machine for c in costs.values() for machine in c.machines]
        where = f" on {machines[0]}" if machines else ""
        notes.append(
            f"Times{where}: median over the steps of runs that had the machine to themselves, "
            "without validation and sampling; '-': not such a run."
        )
    return notes


def _flops(experiment: Experiment, mlp: float, used: Mapping[str, Any]) -> float:
    length = int(used.get("sequence_length") or experiment.architecture["max_seq_len"])
    return TRAINING_FLOPS_PER_MAC * model_macs(experiment, mlp, length)


def _used(arm: Arm, trials: list[Trial]) -> dict[str, Any]:
    settings = next((trial.settings for trial in trials if trial.settings), {})
    return {**arm.settings, **settings}


def _step_times(trial: Trial) -> list[float]:
    """Milliseconds of every step whose neighbours in the log are known."""
    steps = sorted(trial.seconds)
    return [1000 * (trial.seconds[b] - trial.seconds[a]) for a, b in pairwise(steps) if b == a + 1]


def _known(outcome: Outcome, step: int) -> bool:
    return step in outcome.val and (step == 0 or step in outcome.trial.seconds)


def _seconds(outcome: Outcome, step: int) -> float:
    return outcome.trial.seconds[step] if step else 0.0


def _at_equal(curves: Mapping[str, Mapping[float, float]]) -> tuple[float, dict[str, float]] | None:
    """Losses at the cost at which the cheapest arm ends, between validations by straight lines;
    None when all end at the same."""
    drawn = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not differs(drawn):
        return None
    equal = min(max(curve) for curve in drawn.values())
    return equal, {
        name: float(np.interp(equal, sorted(curve), [curve[x] for x in sorted(curve)]))
        for name, curve in drawn.items()
    }


def _flop_text(value: float, base: float) -> str:
    return f"{value:.2e} ({md.percent(value / base)})" if base else f"{value:.2e}"


def _loss(value: float | None) -> str:
    return "-" if value is None else md.loss(value)
