"""Differences that depend on each other exactly: four arms compared in a ring."""

from __future__ import annotations

import numpy as np

from pyllmc.report.inference import critical_value


def test_critical_value_of_a_singular_correlation() -> None:
    ring = np.array([[1, 0.5, 0.5, 0], [0.5, 1, 0, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1]])
    assert np.linalg.matrix_rank(ring) == 3
    critical = critical_value(ring, 12, 0.95)
    draws = np.random.default_rng(0)
    values = draws.multivariate_normal(np.zeros(4), ring, 200_000)
    values /= np.sqrt(draws.chisquare(12, 200_000) / 12)[:, None]
    inside = (np.abs(values) < critical).all(axis=1).mean()
    assert abs(inside - 0.95) < 0.003
