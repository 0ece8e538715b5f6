"""What report.html shows beyond the README. Plain values: whoever calls has read the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class WeightMap:
    """Mean |W| over the blocks of one weight matrix, in 256 levels.

    `levels` is (blocks down, blocks across), uint8; level 255 stands for `top`, and 0 only for a
    block whose every weight is 0. `rows` and `cols` are the matrix's own shape, `nonzero` the
    share of its weights that are not 0.
    """

    name: str
    layer: int
    rows: int
    cols: int
    levels: np.ndarray
    top: float
    nonzero: float


@dataclass(frozen=True)
class Weights:
    """The weight maps of one checkpoint, or in `problem` why there are none."""

    arm: str
    seed: int | None
    file: str
    maps: tuple[WeightMap, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Cell:
    """One run as its own files tell it.

    `tokens_per_second` is the median over its logged steps, `memory_bytes` what the trainer
    planned; None where nothing was logged. `record` (how it was started) and `state` (what became
    of it) are shown as they are; `earlier` are the states in which earlier attempts ended.
    """

    arm: str
    seed: int | None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    earlier: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The cells in the experiment's order, and the checkpoints that were there."""

    cells: tuple[Cell, ...]
    weights: tuple[Weights, ...]
