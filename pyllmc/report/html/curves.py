"""Curves of several seeds as mean and range, thinned to what a screen can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pyllmc.report.excerpt import after_start
from pyllmc.report.outcomes import Curve

# More points than pixels only make the file larger.
MAX_POINTS = 2000


class Spread(NamedTuple):
    """Mean and range over the seeds by step, and of how many seeds at most."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def spread(curves: Sequence[Curve]) -> Spread:
    """Mean and range of `curves` at every step that any of them has, at most MAX_POINTS steps."""
    curves = [curve for curve in curves if curve]
    steps = np.unique(np.concatenate([np.array([], np.int64), *map(_steps, curves)]))
    count, total = np.zeros(len(steps)), np.zeros(len(steps))
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    for curve in curves:
        at = np.searchsorted(steps, _steps(curve))
        values = np.fromiter(curve.values(), np.float64, len(curve))
        count[at] += 1
        total[at] += values
        low[at] = np.minimum(low[at], values)
        high[at] = np.maximum(high[at], values)
    kept = thinned(low, high, MAX_POINTS)
    with np.errstate(invalid="ignore"):
        mean = total / count
    return Spread(steps[kept], mean[kept], low[kept], high[kept], len(curves))


def thinned(low: np.ndarray, high: np.ndarray, limit: int) -> np.ndarray:
    """Indices of at most `limit` points: the first, the last, and of each stretch in between the
    lowest and the highest, so that no spike is lost."""
    n = len(low)
    if n <= limit:
        return np.arange(n)
    edges = np.linspace(1, n - 1, (limit - 2) // 2 + 1).astype(np.int64)
    kept = {0, n - 1}
    for start, end in pairwise(edges.tolist()):
        kept.add(start + int(np.argmin(low[start:end])))
        kept.add(start + int(np.argmax(high[start:end])))
    return np.array(sorted(kept), np.int64)


def frame(spreads: Iterable[Spread], *, around_zero: bool = False) -> list[float] | None:
    """The y-range of a chart of `spreads`, None for all."""
    curves = [(one.steps, one.low, one.high) for one in spreads]
    found = after_start(curves, around_zero=around_zero)
    return None if found is None else list(found)


def numbers(values: Any) -> list[float | int | None]:
    """For JSON, which knows no NaN: 7 digits, None for what is not finite."""
    return [_number(value) for value in np.asarray(values).tolist()]


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if np.isfinite(value) else None


def _steps(curve: Curve) -> np.ndarray:
    return np.fromiter(curve, np.int64, len(curve))
