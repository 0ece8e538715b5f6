"""Cost and fit: arithmetic by hand, times only of undisturbed runs, the gap to validation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report.synthetic import Losses, arm, build

from pyllmc.report.cost import against_flops, against_time, cost
from pyllmc.report.fit import epochs, gap_curve, subset_curve
from pyllmc.report.inputs import Experiment, Trial
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.readme import render

ARMS = (arm("dense"), arm("band", 32))
LOSSES: Losses = {"dense": [2.0, 2.2, 2.4], "band": [2.1, 2.3, 2.5]}
SEEDS = (1, 2, 3)


def text(made: Experiment) -> str:
    return render(made, Outcomes(made), {})


def ran(made: Experiment, **facts: object) -> Experiment:
    """The experiment with the same facts in every trial's record."""
    trials = [replace(trial, **facts) for trial in made.trials]  # type: ignore[arg-type]
    return replace(made, trials=tuple(trials))


def section(made: Experiment, heading: str) -> str:
    return text(made).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def row(made: Experiment, heading: str, first: str) -> list[str]:
    lines = [x for x in section(made, heading).splitlines() if x.startswith(f"| {first} ")]
    return [cell.strip() for cell in lines[0].split("|")[2:-1]]


# By hand for C = 16, L = 2, T = 32, V = 100: 2 (4 C² + 33 C) + 100 C without the MLPs, and an MLP
# of 2 · 1024 weights a layer of which the band keeps 2 · 460, with 2 · 700 multiply-adds when
# multiplied alone. 6 FLOPs each, 128 tokens a step.
REST = 2 * (4 * 256 + 33 * 16) + 1600
DENSE_FLOPS = 6 * (REST + 4 * 1024) * 128
BAND_FLOPS = 6 * (REST + 4 * 460) * 128
ALONE_FLOPS = 6 * (REST + 4 * 700) * 128


def test_masks_execute_the_dense_product() -> None:
    made = build(LOSSES, ARMS, SEEDS)
    assert [cost(made, a).needed for a in ARMS] == [DENSE_FLOPS, BAND_FLOPS]
    assert [cost(made, a).executed for a in ARMS] == [DENSE_FLOPS, DENSE_FLOPS]
    assert "All runs execute the same arithmetic" in section(made, "Cost")
    assert "multiplied alone" not in section(made, "Cost")
    share = f"{100 * BAND_FLOPS / DENSE_FLOPS:.1f} %"
    assert row(made, "Cost", "band")[1:3] == [
        f"{BAND_FLOPS:.2e} ({share})", f"{DENSE_FLOPS:.2e} (100.0 %)",
    ]  # fmt: skip


def test_band_execution_executes_what_a_band_alone_takes() -> None:
    made = ran(build(LOSSES, ARMS, SEEDS), settings={"execution": "band"})
    assert [cost(made, a).needed for a in ARMS] == [DENSE_FLOPS, BAND_FLOPS]
    assert [cost(made, a).executed for a in ARMS] == [DENSE_FLOPS, ALONE_FLOPS]
    share = f"{100 * ALONE_FLOPS / DENSE_FLOPS:.1f} %"
    assert row(made, "Cost", "band")[2] == f"{ALONE_FLOPS:.2e} ({share})"
    assert "multiplied alone counts the pieces that hold it: 32 hidden units" in section(
        made, "Cost"
    )
    # The band ends after fewer FLOPs; dense at that point is between its two validations.
    cells = row(made, "Cost", "dense")
    start, end = 4.2, 2.2
    expected = start + (end - start) * ALONE_FLOPS / DENSE_FLOPS
    assert cells[-1] == f"{expected:.4f}"
    assert row(made, "Cost", "band")[-1] == "2.3000"
    assert max(against_flops(made, Outcomes(made), ARMS[1])) == 10 * ALONE_FLOPS


CLOCK = {step: 0.02 * step for step in range(1, 11)}


@pytest.mark.parametrize("alone", [None, False])
def test_a_time_that_may_have_been_disturbed_is_not_shown(alone: bool | None) -> None:
    made = ran(build(LOSSES, ARMS, SEEDS), seconds=CLOCK, alone=alone, machine="a machine")
    assert all(cost(made, a).step_ms is None for a in ARMS)
    assert against_time(Outcomes(made), ARMS[0]) == {}
    assert "No time is shown" in section(made, "Cost")
    assert "ms a step" not in section(made, "Cost")
    assert "a machine" not in text(made)


def test_a_run_that_was_alone_shows_its_time_and_machine() -> None:
    made = ran(build(LOSSES, ARMS, SEEDS), seconds=CLOCK, alone=True, machine="a machine")
    slow = {step: 0.03 * step for step in range(1, 11)}
    trials = [replace(t, seconds=slow) if t.arm == "band" else t for t in made.trials]
    made = replace(made, trials=tuple(trials))
    assert [cost(made, a).step_ms for a in ARMS] == pytest.approx([20.0, 30.0])
    assert "Times on a machine: median" in section(made, "Cost")
    assert row(made, "Cost", "band")[4] == "30.0"
    assert against_time(Outcomes(made), ARMS[1]) == pytest.approx({0.0: 4.3, 0.3: 2.3})
    # At 0.2 s dense is done and the band two thirds of the way.
    assert row(made, "Cost", "dense")[-1] == "2.2000"
    assert row(made, "Cost", "band")[-1] == f"{4.3 - 2.0 * 2 / 3:.4f}"


def test_machines_are_named_by_row_when_they_differ() -> None:
    made = ran(build(LOSSES, ARMS, SEEDS), seconds=CLOCK, alone=True, machine="one")
    trials = [replace(t, machine="other") if t.arm == "band" else t for t in made.trials]
    made = replace(made, trials=tuple(trials))
    assert (row(made, "Cost", "dense")[-1], row(made, "Cost", "band")[-1]) == ("one", "other")


def test_memory_is_the_most_that_a_seed_planned() -> None:
    made = build(LOSSES, ARMS, SEEDS)
    sizes = iter((2**20, 3 * 2**20, 2**20, 2**19, 2**19, 2**19))
    trials = tuple(Trial(t.arm, t.seed, t.log, {"memory_bytes": next(sizes)}) for t in made.trials)
    made = replace(made, trials=trials)
    assert (row(made, "Cost", "dense")[3], row(made, "Cost", "band")[3]) == ("3.0", "0.5")


SUBSET: Losses = {"dense": [1.9, 2.1, 2.0], "band": [1.5, 1.6, 1.7]}


def test_gap_to_validation_is_paired_by_seed() -> None:
    made = build(LOSSES, ARMS, SEEDS, subset=SUBSET)
    outcomes = Outcomes(made)
    assert subset_curve(outcomes, "dense")[10].mean == pytest.approx(2.0)
    assert gap_curve(outcomes, "dense")[10] == pytest.approx((0.2, 0.1, 0.4))
    cells = row(made, "Training and validation", "dense")
    assert cells[1:] == ["2.0000 ± 0.1000 (n=3)", "2.2000 ± 0.2000 (n=3)", "+0.2000 ± 0.1732"]


def test_without_such_a_loss_there_is_no_section() -> None:
    assert "## Training and validation" not in text(build(LOSSES, ARMS, SEEDS))


def test_epochs_are_tokens_seen_by_tokens_there() -> None:
    made = ran(build(LOSSES, ARMS, SEEDS, subset=SUBSET), settings={"train_tokens": 640})
    assert epochs(made, ARMS[0]) == 10 * 4 * 32 / 640
    assert row(made, "Training and validation", "band")[0] == "2"
    assert epochs(build(LOSSES, ARMS, SEEDS), ARMS[0]) is None
