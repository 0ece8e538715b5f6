"""The learning rate as an axis: chosen on validation, told on test, and what tuning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from report.synthetic import SEEDS, SETTINGS, Losses, arm, build

from pyllmc.report.comparisons import Verdict
from pyllmc.report.inputs import Arm, Experiment
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.rates import Tuning, at_equal_rates, tuning
from pyllmc.report.readme import render

RATES = (1e-4, 3e-4, 1e-3)


def at(name: str, rate: float, width: int = 0) -> Arm:
    made = arm(f"{name}_{rate:g}", width)
    return replace(
        made,
        label=f"{name}, lr {rate:g}",
        baseline=f"dense_{rate:g}",
        settings={**SETTINGS, "learning_rate": rate},
    )


ARMS = tuple(at("dense", rate) for rate in RATES) + tuple(at("fc2", rate, 32) for rate in RATES)


def losses(dense: tuple[float, ...], fc2: tuple[float, ...], noise: float = 1e-3) -> Losses:
    rng = np.random.default_rng(5)
    seeds = rng.normal(0, 0.05, len(SEEDS))
    return {
        a.name: (mean + seeds + rng.normal(0, noise, len(SEEDS))).tolist()
        for a, mean in zip(ARMS, (*dense, *fc2), strict=True)
    }


# The original's FC2: ahead at the low rate, where everything is too slow; behind at the best one.
FASTER = losses((2.50, 2.30, 2.40), (2.44, 2.29, 2.45))
TEST = losses((2.60, 2.40, 2.50), (2.54, 2.44, 2.55))


def tuned(made: Experiment) -> Tuning:
    found = tuning(made, Outcomes(made))
    assert found is not None
    return found


def text(made: Experiment) -> str:
    return render(made, Outcomes(made), {})


def only(values: Losses, seed: int) -> Losses:
    return {name: [numbers[seed]] for name, numbers in values.items()}


def test_a_gain_at_one_rate_that_tuning_takes_away_is_called_faster_optimization() -> None:
    made = build(FASTER, ARMS, test=TEST)
    found = tuned(made)
    (row,) = found.others
    assert (row.rate, found.baseline_rate, found.on_test) == (3e-4, 3e-4, True)
    assert row.single[1e-4].compared is not None
    assert row.single[1e-4].compared.verdict is Verdict.BETTER
    assert row.tuned is not None
    assert row.tuned.compared is not None
    assert row.tuned.compared.verdict is Verdict.WORSE
    assert row.gain_is_tuning
    short = text(made).split("## In short")[1].split("\n## ")[0]
    assert "At learning rate 0.0001, the first of 3, unless another is named" in short
    assert "each at its best learning rate and on test loss: shown worse: fc2." in short
    assert "fc2 is better than dense at learning rate 0.0001 (-0.06" in short
    assert "best rate (+0.03" in short
    assert "what looked like a gain is faster optimization at one untuned rate." in short


def test_the_rate_is_chosen_on_validation_and_the_difference_told_on_test() -> None:
    # On test 1e-3 would be dense's best rate: it must not be looked at for the choice.
    test = losses((2.60, 2.40, 2.20), (2.54, 2.44, 2.55), noise=1e-9)
    (row,) = tuned(build(FASTER, ARMS, test=test)).others
    assert row.tuned is not None
    assert row.tuned.nats == pytest.approx(2.44 - 2.40, abs=1e-6)


def test_a_gain_that_survives_tuning_is_no_artefact() -> None:
    made = build(losses((2.50, 2.30, 2.40), (2.44, 2.25, 2.45)), ARMS)
    (row,) = tuned(made).others
    assert not row.gain_is_tuning
    report = text(made)
    assert "and still when each has its best rate" in report
    assert "faster optimization" not in report


def test_without_test_losses_the_report_says_what_judges() -> None:
    made = build(FASTER, ARMS)
    assert not tuned(made).on_test
    assert "the loss that chose the rates also judges them here" in text(made)


def test_one_seed_describes() -> None:
    made = build(only(FASTER, 0), ARMS, seeds=(1,), test=only(TEST, 0))
    report = text(made)
    assert "fc2 is in these runs better than dense at learning rate 0.0001 (-0.0" in report
    assert "faster optimization at one untuned rate" in report
    assert "shown" not in report.split("## Learning rate")[1].split("\n## ")[0]


def test_a_rate_at_which_a_seed_diverged_cannot_be_chosen() -> None:
    spoiled = {name: list(values) for name, values in FASTER.items()}
    spoiled["fc2_0.0003"][1] = float("inf")
    made = build(spoiled, ARMS)
    (row,) = tuned(made).others
    assert row.rate == 1e-4
    assert "diverged (1 of 5)" in text(made).split("## Learning rate")[1]


@pytest.mark.parametrize(("dense", "edge"), [((2.5, 2.3, 2.4), False), ((2.5, 2.3, 2.2), True)])
def test_a_best_rate_at_the_edge_is_told(dense: tuple[float, ...], edge: bool) -> None:
    made = build(losses(dense, (2.44, 2.29, 2.45)), ARMS)
    assert tuned(made).baseline_at_edge == edge
    assert ("a better one may lie beyond" in text(made)) == edge


def test_arms_are_compared_at_their_own_rate() -> None:
    crossed = tuple(replace(a, baseline="dense_0.0003") for a in ARMS)
    expected: Mapping[str, str] = {a.name: f"dense_{a.settings['learning_rate']:g}" for a in ARMS}
    assert at_equal_rates(crossed) == expected


def test_labels_lose_their_rate() -> None:
    found = tuned(build(FASTER, ARMS))
    assert [found.baseline.label, *(t.configuration.label for t in found.others)] == [
        "dense", "fc2",
    ]  # fmt: skip


def test_one_rate_is_no_axis() -> None:
    arms = [a for a in ARMS if a.settings["learning_rate"] == 3e-4]
    made = build({a.name: FASTER[a.name] for a in arms}, arms)
    assert tuning(made, Outcomes(made)) is None
    assert "## Learning rate" not in text(made)
