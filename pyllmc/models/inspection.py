"""What a checkpoint holds: its shape, its densities, and whether its weights agree with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BandedWeight:
    """One MLP weight of one layer.

    `kept` and `total` count entries of the recorded pattern, `nonzero` those of the file; `inside`
    is the share of sum |W| that lies in the band (1.0 for a dense weight).
    """

    layer: int
    name: str
    bandwidth: int
    kept: int
    total: int
    nonzero: int
    inside: float

    @property
    def agrees(self) -> bool:
        """Whether nothing lies outside the recorded band."""
        return self.inside == 1.0


@dataclass(frozen=True)
class Inspection:
    """A checkpoint's header, parameter count and MLP weights, with sentences about what is odd."""

    path: str
    header: dict[str, Any]
    parameters: int
    weights: tuple[BandedWeight, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def band_share(weight: np.ndarray, mask: np.ndarray) -> float:
    """Share of sum |W| inside `mask`, both (rows, cols); exactly 1.0 when nothing lies outside."""
    magnitude = np.abs(weight.astype(np.float64))
    outside = float(magnitude[~mask].sum())
    total = float(magnitude.sum())
    return 1.0 if outside == 0 else 1.0 - outside / total


def inspect_checkpoint(path: Path) -> Inspection:
    """Read a checkpoint and compare its MLP weights with the bandwidths that its header records.

    Raises FormatError when the file is not an llm.c checkpoint.
    """
    from pyllmc import _core

    header, tensors = _core.read_checkpoint(str(path))
    weights: list[BandedWeight] = []
    warnings: list[str] = []
    for layer_name, tensor, key in (
        ("fc1", "fcw", "fc1_bandwidth"),
        ("fc2", "fcprojw", "fc2_bandwidth"),
    ):
        stacked = tensors[tensor]
        pattern = _core.Pattern.band(stacked.shape[1], stacked.shape[2], header[key])
        mask = pattern.mask()
        for layer, weight in enumerate(stacked):
            weights.append(
                BandedWeight(
                    layer=layer,
                    name=layer_name,
                    bandwidth=header[key],
                    kept=pattern.kept,
                    total=pattern.total,
                    nonzero=int(np.count_nonzero(weight)),
                    inside=band_share(weight, mask),
                )
            )
        warnings += _warnings(layer_name, [w for w in weights if w.name == layer_name], header)
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            warnings.append(f"{name} holds values that are not finite: the run diverged")
    return Inspection(
        path=str(path),
        header=header,
        parameters=sum(values.size for values in tensors.values()),
        weights=tuple(sorted(weights, key=lambda w: (w.layer, w.name))),
        warnings=tuple(warnings),
    )


def _warnings(name: str, weights: list[BandedWeight], header: dict[str, Any]) -> list[str]:
    bandwidth = weights[0].bandwidth
    outside = [w for w in weights if not w.agrees]
    if outside:
        largest = 1 - min(w.inside for w in outside)
        when = (
            ": not masked yet, as --mask-init 0 leaves it before the first update"
            if header["step"] == 0
            else ""
        )
        return [
            f"{name}: the header records bandwidth {bandwidth}, but up to {largest:.2%} of |W| "
            f"lies outside the band{when}"
        ]
    zeros = 1 - sum(w.nonzero for w in weights) / sum(w.total for w in weights)
    if bandwidth == 0 and zeros > 0.01:
        return [
            f"{name}: the header records a dense weight, but {zeros:.1%} of it is exactly 0: it "
            "may come from a banded run of another program; continuing it without -1 and -2 "
            "makes it dense"
        ]
    return []
