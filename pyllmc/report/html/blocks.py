"""A weight matrix made small enough to look at."""

from __future__ import annotations

import numpy as np

from pyllmc.report.html.inputs import WeightMap

BLOCKS = 64


def weight_map(name: str, layer: int, weight: np.ndarray) -> WeightMap:
    """Means of |W| over at most BLOCKS x BLOCKS blocks of `weight` (rows, cols).

    Weights that are not finite count as 0 in the means.
    """
    rows, cols = weight.shape
    magnitude = np.abs(np.nan_to_num(weight.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0))
    means = _block_means(_block_means(magnitude, 0), 1)
    top = float(means.max(initial=0.0))
    # Rounded up: a block with any weight in it must not look like one without.
    levels = np.ceil(255 * means / top) if top > 0 else means
    nonzero = int(np.count_nonzero(weight)) / weight.size
    return WeightMap(name, layer, rows, cols, levels.astype(np.uint8), top, nonzero)


def _block_means(values: np.ndarray, axis: int) -> np.ndarray:
    length = values.shape[axis]
    count = min(length, BLOCKS)
    edges = np.arange(count) * length // count
    sizes = np.diff(edges, append=length)
    sums = np.add.reduceat(values, edges, axis=axis)
    return sums / (sizes[:, None] if axis == 0 else sizes)
