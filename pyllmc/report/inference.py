"""Differences between arms when every seed is a block: the additive model and its intervals.

Loss of arm a under seed s = μ + α_a + β_s + ε, ε independent, normal and of one variance (Scheffé,
The Analysis of Variance, ch. 4). In a complete table of k arms and n seeds the residual has
(k − 1)(n − 1) degrees of freedom and a difference of two arms the variance 2 σ²/n; a table with
gaps is fitted by least squares. Several differences get simultaneous intervals: the critical value
c solves P(max |T_i| ≤ c) = level for the multivariate t of the differences' correlations, which
for k − 1 arms against one is Dunnett's (JASA 50, 1955): every correlation 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special
from scipy.optimize import brentq

Weights = Mapping[str, float]  # of arms in a difference; they sum to 0
_NODES = 96  # of a Gauss-Legendre quadrature


@dataclass(frozen=True)
class Fit:
    """The additive model fitted to one loss an arm and seed.

    `unit` is the covariance of the arms' effects for a residual variance of 1.
    """

    arms: tuple[str, ...]
    effects: np.ndarray
    unit: np.ndarray
    row_space: np.ndarray
    df: int
    residual_sd: float

    def can_estimate(self, weights: Weights) -> bool:
        """Whether the table connects the arms by common seeds."""
        vector = self._vector(weights, len(self.row_space))
        return bool(np.allclose(vector @ self.row_space, vector, atol=1e-8))

    def estimate(self, weights: Weights) -> float:
        """The difference, freed of the seeds."""
        return float(self._vector(weights, len(self.arms)) @ self.effects)

    def unit_covariance(self, differences: Sequence[Weights]) -> np.ndarray:
        """Covariance of the differences' estimates for a residual variance of 1."""
        rows = np.array([self._vector(weights, len(self.arms)) for weights in differences])
        return rows @ self.unit @ rows.T

    def _vector(self, weights: Weights, size: int) -> np.ndarray:
        vector = np.zeros(size)
        for arm, weight in weights.items():
            vector[self.arms.index(arm)] = weight
        return vector


def fit(table: Mapping[str, Mapping[object, float]]) -> Fit | None:
    """Fits the losses in `table[arm][seed]`; None where no degree of freedom is left."""
    arms = tuple(table)
    seeds = list(dict.fromkeys(seed for losses in table.values() for seed in losses))
    cells = [(arm, seed) for arm in arms for seed in seeds if seed in table[arm]]
    if not cells:
        return None
    design = np.zeros((len(cells), len(arms) + len(seeds)))
    for row, (arm, seed) in enumerate(cells):
        design[row, arms.index(arm)] = 1
        design[row, len(arms) + seeds.index(seed)] = 1
    losses = np.array([table[arm][seed] for arm, seed in cells])
    # A loss is several nats, a residual may be 1e-4 of one: only what varies is squared.
    losses = losses - losses.mean()
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)
    coefficients = inverse @ design.T @ losses
    df = len(cells) - int(np.linalg.matrix_rank(design))
    if df < 1:
        return None
    residuals = losses - design @ coefficients
    k = len(arms)
    return Fit(
        arms,
        coefficients[:k],
        inverse[:k, :k],
        inverse @ design.T @ design,
        df,
        math.sqrt(float(residuals @ residuals) / df),
    )


def unsteady_arms(table: Mapping[str, Mapping[object, float]], error_rate: float) -> set[str]:
    """Arms whose residuals vary more than those of all others together, by F tests at
    `error_rate` over the number of arms; only seeds that every arm has are looked at.

    An arm's loss minus the others' mean has the variance σ² (1 + 1/(k − 1)) over the seeds, and is
    independent of the others' residuals.
    """
    arms = list(table)
    k = len(arms)
    seeds = [s for s in (table[arms[0]] if arms else ()) if all(s in table[arm] for arm in arms)]
    n = len(seeds)
    if k < 3 or n < 2:
        return set()
    losses = np.array([[table[arm][seed] for seed in seeds] for arm in arms])
    found = set()
    for i, arm in enumerate(arms):
        rest = np.delete(losses, i, axis=0)
        own = (losses[i] - rest.mean(0)).var(ddof=1) / (1 + 1 / (k - 1))
        residuals = rest - rest.mean(0) - rest.mean(1, keepdims=True) + rest.mean()
        df = (k - 2) * (n - 1)
        others = (residuals**2).sum() / df
        if special.fdtrc(n - 1, df, own / max(others, 1e-300)) < error_rate / k:
            found.add(arm)
    return found


@dataclass(frozen=True)
class Intervals:
    """Estimates of several differences, each ± its half width, all true at once at `level`."""

    estimates: tuple[float, ...]
    standard_errors: tuple[float, ...]
    critical: float
    df: int
    residual_sd: float
    level: float

    @property
    def half_widths(self) -> tuple[float, ...]:
        """Half of each interval: the smallest observed difference that is shown."""
        return tuple(self.critical * error for error in self.standard_errors)

    def detectable(self, power: float) -> tuple[float, ...]:
        """The true differences of which each would have been shown with probability `power`."""
        shift = _shift(self.critical, self.df, power)
        return tuple(shift * error for error in self.standard_errors)


def intervals(model: Fit, differences: Sequence[Weights], level: float) -> Intervals:
    """Simultaneous intervals for differences that `model` can estimate."""
    unit = model.unit_covariance(differences)
    scale = np.sqrt(np.diag(unit))
    return Intervals(
        tuple(model.estimate(weights) for weights in differences),
        tuple(float(model.residual_sd * s) for s in scale),
        critical_value(unit / np.outer(scale, scale), model.df, level),
        model.df,
        model.residual_sd,
        level,
    )


def critical_value(correlation: np.ndarray, df: int, level: float) -> float:
    """c with P(all |T_i| ≤ c) = level for the multivariate t of `correlation` and `df`."""
    # Rounded so that equal designs are recognized whatever their arithmetic's last bits.
    rounded = np.round(correlation, 9)
    return _critical_value(tuple(map(tuple, rounded.tolist())), df, level)


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    return float(special.stdtrit(df, probability))


@lru_cache(maxsize=256)
def _critical_value(correlation: tuple[tuple[float, ...], ...], df: int, level: float) -> float:
    matrix = np.array(correlation)
    m = len(matrix)
    single = t_quantile((1 + level) / 2, df)
    if m == 1:
        return single
    others = matrix[~np.eye(m, dtype=bool)]
    common = float(others[0])
    within: Callable[[float], float]
    if (others == common).all() and 0 <= common < 1:
        within = _one_factor(m, common, df)
    else:
        within = _general(matrix, df)
    # Bonferroni's value is never too small.
    high = t_quantile(1 - (1 - level) / (2 * m), df) * 1.01
    return float(brentq(lambda c: within(c) - level, single * 0.99, high, xtol=1e-6))


def _one_factor(m: int, correlation: float, df: int) -> Callable[[float], float]:
    """P(all |T_i| ≤ c) for one common correlation ρ, by quadrature over T_i's two common parts.

    T_i = (√ρ z + √(1 − ρ) x_i) / s with z, x_i standard normal and s² = χ²_df / df.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    z = 8.5 * nodes
    z_weights = 8.5 * weights * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    s, s_weights = _scales(df)
    shared, own = math.sqrt(correlation) * z, math.sqrt(1 - correlation)

    def within(c: float) -> float:
        reach = c * s[:, None]
        one = special.ndtr((reach - shared) / own) - special.ndtr((-reach - shared) / own)
        return float(s_weights @ (one**m) @ z_weights)

    return within


def _scales(df: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights to integrate over the density of s, s² = χ²_df / df."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low, high = (math.sqrt(special.chdtri(df, p) / df) for p in (1 - 1e-12, 1e-12))
    s = (high + low) / 2 + (high - low) / 2 * nodes
    log_density = (
        math.log(2) + df / 2 * math.log(df / 2) - special.gammaln(df / 2)
        + (df - 1) * np.log(s) - df * s * s / 2
    )  # fmt: skip
    return s, (high - low) / 2 * weights * np.exp(log_density)


def _general(matrix: np.ndarray, df: int) -> Callable[[float], float]:
    from scipy.stats import multivariate_t

    m = len(matrix)
    # Exactly dependent differences (four arms compared in a ring) make scipy's value wrong.
    matrix = (matrix + 1e-9 * np.eye(m)) / (1 + 1e-9)

    def within(c: float) -> float:
        # A fixed seed: the same table gives the same report.
        return float(
            multivariate_t.cdf(
                np.full(m, c), shape=matrix, df=df, lower_limit=np.full(m, -c),
                allow_singular=True, random_state=1, maxpts=20_000 * m,
            )
        )  # fmt: skip

    return within


@lru_cache(maxsize=64)
def _shift(critical: float, df: int, power: float) -> float:
    """The true difference, in standard errors, at which |T| > critical with that probability."""

    s, weights = _scales(df)

    def missing(shift: float) -> float:
        beyond = special.ndtr(shift - critical * s) + special.ndtr(-shift - critical * s)
        return float(weights @ beyond) - power

    high = critical + 1
    while missing(high) < 0:
        high *= 1.5
    return float(brentq(missing, 0, high, xtol=1e-6))
