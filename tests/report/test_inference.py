"""The additive model, its simultaneous intervals, and what they promise, by simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from pyllmc.report.comparisons import Verdict, judge_count, judge_interval
from pyllmc.report.inference import Fit, critical_value, fit, intervals, unsteady_arms


def equal(m: int, correlation: float = 0.5) -> np.ndarray:
    return np.full((m, m), correlation) + (1 - correlation) * np.eye(m)


def table(losses: np.ndarray) -> dict[str, dict[object, float]]:
    """Row = arm, column = seed; NaN = no such run."""
    return {
        f"arm{i}": {j: float(x) for j, x in enumerate(row) if not math.isnan(x)}
        for i, row in enumerate(losses)
    }


def fitted(losses: np.ndarray) -> Fit:
    model = fit(table(losses))
    assert model is not None
    return model


def to_first(arms: int) -> list[dict[str, float]]:
    return [{f"arm{i}": 1.0, "arm0": -1.0} for i in range(1, arms)]


@pytest.mark.parametrize(
    ("m", "df", "published"),
    # Dunnett (Biometrics 20, 1964), two-sided 5 %.
    [(2, 5, 3.03), (3, 10, 2.76), (5, 20, 2.73), (9, 30, 2.86)],
)
def test_critical_values_are_dunnetts(m: int, df: int, published: float) -> None:
    assert critical_value(equal(m), df, 0.95) == pytest.approx(published, abs=0.006)


def test_unblocked_case_is_scipys_dunnett() -> None:
    rng = np.random.default_rng(3)
    groups = rng.normal(size=(5, 6))
    ours = critical_value(equal(4), 25, 0.95)
    interval = stats.dunnett(*groups[1:], control=groups[0], rng=1).confidence_interval(0.95)
    pooled = math.sqrt(groups.var(axis=1, ddof=1).mean() * 2 / 6)
    theirs = (interval.high - interval.low) / 2 / pooled
    assert theirs == pytest.approx(np.full(4, ours), rel=3e-3)


def test_quadrature_and_the_general_integral_agree() -> None:
    almost_equal = equal(5)
    almost_equal[0, 1] = almost_equal[1, 0] = 0.50001
    assert critical_value(almost_equal, 8, 0.95) == pytest.approx(
        critical_value(equal(5), 8, 0.95), rel=1e-3
    )


def test_one_difference_of_two_arms_is_the_paired_t_interval() -> None:
    losses = np.random.default_rng(0).normal(size=(2, 5))
    made = intervals(fitted(losses), to_first(2), 0.95)
    gaps = losses[1] - losses[0]
    low, high = stats.t.interval(0.95, 4, gaps.mean(), stats.sem(gaps))
    assert made.estimates[0] == pytest.approx(gaps.mean())
    assert made.half_widths[0] == pytest.approx((high - low) / 2)


def test_complete_table_has_the_closed_form() -> None:
    losses = 2.5 + np.random.default_rng(1).normal(size=(4, 3))
    model = fitted(losses)
    residuals = losses - losses.mean(1, keepdims=True) - losses.mean(0) + losses.mean()
    assert model.df == 6
    assert model.residual_sd == pytest.approx(math.sqrt((residuals**2).sum() / 6))
    made = intervals(model, to_first(4), 0.95)
    assert made.standard_errors == pytest.approx([model.residual_sd * math.sqrt(2 / 3)] * 3)
    assert made.estimates == pytest.approx(losses.mean(1)[1:] - losses.mean(1)[0])
    assert made.critical == pytest.approx(critical_value(equal(3), 6, 0.95))


def test_a_table_with_gaps_is_fitted_by_least_squares() -> None:
    # Without residuals the effects come out exactly, whichever runs are missing.
    losses = np.add.outer([0.0, 0.3, -0.2], [1.0, 5.0, 2.0, 7.0])
    losses[1, 0] = losses[2, 3] = math.nan
    model = fitted(losses)
    assert model.df == 10 - 6
    assert [model.estimate(w) for w in to_first(3)] == pytest.approx([0.3, -0.2])
    assert model.residual_sd == pytest.approx(0, abs=1e-9)


def test_arms_without_a_common_seed_cannot_be_compared() -> None:
    nan = math.nan
    losses = np.array(
        [[1, 2, 3, nan, nan], [1, 3, 2, nan, nan], [nan, nan, nan, 4, 5], [nan, nan, nan, 5, 5.5]]
    )
    model = fitted(losses)
    assert model.can_estimate({"arm1": 1.0, "arm0": -1.0})
    assert not model.can_estimate({"arm2": 1.0, "arm0": -1.0})


def test_no_degree_of_freedom_gives_no_model() -> None:
    assert fit(table(np.array([[1.0], [2.0]]))) is None
    assert fit({}) is None


def simulate(effects: np.ndarray, seeds: int, runs: int) -> tuple[np.ndarray, float]:
    """Estimates minus ± for many tables, and the critical value: (runs, arms − 1) of t values."""
    rng = np.random.default_rng(7)
    arms = len(effects)
    noise = rng.normal(size=(runs, arms, seeds))
    losses = effects[:, None] + rng.normal(size=(runs, 1, seeds)) * 30 + noise
    centred = losses - losses.mean(1, keepdims=True)
    residuals = centred - centred.mean(2, keepdims=True)
    df = (arms - 1) * (seeds - 1)
    error = np.sqrt((residuals**2).sum((1, 2)) / df * 2 / seeds)
    gaps = losses.mean(2)[:, 1:] - losses.mean(2)[:, :1]
    # The vectorized formulas are those of the fit.
    model = fitted(losses[0])
    assert model.residual_sd * math.sqrt(2 / seeds) == pytest.approx(error[0])
    return gaps / error[:, None], critical_value(equal(arms - 1), df, 0.95)


def test_without_an_effect_one_family_in_twenty_shows_one() -> None:
    for arms, seeds in ((3, 2), (8, 3), (5, 5)):
        t_values, critical = simulate(np.zeros(arms), seeds, 20_000)
        wrong = (np.abs(t_values) > critical).any(1).mean()
        assert wrong == pytest.approx(0.05, abs=0.005), (arms, seeds)


def test_the_detectable_difference_is_found_with_its_power() -> None:
    arms, seeds = 5, 4
    made = intervals(
        fitted(np.random.default_rng(2).normal(size=(arms, seeds))), to_first(arms), 0.95
    )
    for power in (0.5, 0.8, 0.95):
        # In units of the true residual deviation, 1 in the simulation.
        shift = made.detectable(power)[0] / made.residual_sd
        t_values, critical = simulate(np.array([0, shift, 0, 0, 0]), seeds, 20_000)
        assert (np.abs(t_values[:, 0]) > critical).mean() == pytest.approx(power, abs=0.012)


def test_verdict_of_an_interval() -> None:
    cases = [
        (-2.0, None, Verdict.BETTER), (2.0, None, Verdict.WORSE), (0.5, None, Verdict.NOT_SHOWN),
        (0.5, 1.6, Verdict.AS_GOOD), (0.5, 1.4, Verdict.NOT_SHOWN),
        (2.0, 3.1, Verdict.WORSE_WITHIN), (2.0, 2.9, Verdict.WORSE),
        (-2.0, 0.1, Verdict.BETTER), (-0.5, 0.6, Verdict.AS_GOOD),
    ]  # fmt: skip
    for estimate, margin, verdict in cases:
        assert judge_interval(estimate, 1.0, margin) is verdict, (estimate, margin)


def test_verdict_of_a_count_is_a_sign_test() -> None:
    for worse, better in pairwise(range(12)):
        p = stats.binomtest(worse, worse + better).pvalue
        shown = judge_count(worse, better, 0.05) is not Verdict.NOT_SHOWN
        assert shown == (p <= 0.05)
    assert judge_count(6, 0, 0.05) is Verdict.WORSE
    assert judge_count(0, 6, 0.05) is Verdict.BETTER
    assert judge_count(5, 0, 0.05) is Verdict.NOT_SHOWN
    assert judge_count(6, 0, 0.05 / 2) is Verdict.NOT_SHOWN
    assert judge_count(0, 0, 0.05) is Verdict.NOT_SHOWN


def test_an_arm_that_varies_more_than_the_others_is_found() -> None:
    rng = np.random.default_rng(4)
    found: list[set[str]] = []
    for spread in (1.0, 6.0):
        scale = np.ones(6)
        scale[2] = spread
        for _ in range(400):
            losses = rng.normal(size=5) * 9 + rng.normal(size=(6, 5)) * scale[:, None]
            found.append(unsteady_arms(table(losses), 0.05))
    alike, wild = found[:400], found[400:]
    assert sum(map(bool, alike)) / 400 == pytest.approx(0.05, abs=0.035)
    assert sum("arm2" in arms for arms in wild) > 360


def test_two_arms_cannot_be_told_apart_by_their_spread() -> None:
    assert unsteady_arms(table(np.array([[1.0, 2.0, 9.0], [1.0, 2.0, 3.0]])), 0.05) == set()
