"""What a table and a chart show of long curves: some of the rows, and the part after the start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

# `pyllmc parse` has every row.
_MAX_ROWS = 21


def table_steps(steps: Sequence[int]) -> list[int]:
    """At most 21 of the steps, first and last among them."""
    if len(steps) <= _MAX_ROWS:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (_MAX_ROWS - 1))] for i in range(_MAX_ROWS)]


def after_start(
    curves: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    around_zero: bool = False,
) -> tuple[float, float] | None:
    """A y-range for curves of (x, low, high): the first losses dwarf every difference, so what is
    drawn at the first x, or in the first tenth of all, may lie outside. None: nothing is finite."""
    if not curves:
        return None
    x, low, high = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    there = np.unique(x)
    first = max(there[1], there[-1] / 10) if len(there) > 2 else -np.inf
    values = np.concatenate([low[x >= first], high[x >= first]])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    bottom, top = float(values.min()), float(values.max())
    if around_zero:
        bottom, top = min(bottom, 0.0), max(top, 0.0)
    margin = 0.06 * (top - bottom) or 0.01
    return bottom - margin, top + margin
