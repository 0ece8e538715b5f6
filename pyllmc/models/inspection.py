"""What a model file holds: its shape, its densities, and whether its weights agree with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.errors import DeviceError, FormatError, UsageError

PROFILE_BINS = 8


@dataclass(frozen=True)
class MlpWeight:
    """One MLP weight of one layer.

    `kept` counts the entries that the recorded pattern leaves, `nonzero` those of the file that are
    not 0, of `total`; `inside` is the share of sum |W| that lies in the pattern (1.0 for a dense
    weight). `profile` is the share of sum |W| by its distance from the diagonal, measured on the
    hidden axis, in PROFILE_BINS equal parts of H. A low-rank weight counts the entries of both its
    factors and has no profile.
    """

    layer: int
    name: str
    bandwidth: int
    kept: int
    total: int
    nonzero: int
    inside: float
    profile: tuple[float, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing lies outside the recorded pattern."""
        return self.inside == 1.0


@dataclass(frozen=True)
class Inspection:
    """A checkpoint's header, parameter count and MLP weights, with sentences about what is odd."""

    path: str
    header: dict[str, Any]
    parameters: int
    weights: tuple[MlpWeight, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def array_module(device: str) -> Any:
    """NumPy for "cpu", CuPy for "cuda". Raises DeviceError without CuPy or a GPU."""
    if device == "cpu":
        return np
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy has errors of its own for every missing part
        raise DeviceError(
            f"there is no CuPy that can use a GPU ({error}): pip install 'pyllmc[cuda]' on a "
            "machine with an NVIDIA GPU, or leave --device cuda out"
        ) from error
    return cupy


def weight_facts(
    xp: Any, weight: Any, mask: Any, hidden_is_rows: bool
) -> tuple[int, float, tuple[float, ...]]:
    """(nonzero, inside, profile) of MlpWeight, of a weight and its mask (rows, cols) that are
    arrays of the module `xp`; `inside` is exactly 1.0 when nothing lies outside."""
    magnitude = xp.abs(weight.astype(xp.float64))
    outside = float(magnitude[~mask].sum())
    total = float(magnitude.sum())
    across = magnitude if hidden_is_rows else magnitude.T
    hidden, residual = across.shape
    # |j C - i H| < H C, so that bins are 0 to PROFILE_BINS - 1.
    j, i = xp.arange(hidden)[:, None], xp.arange(residual)[None, :]
    bins = abs(j * residual - i * hidden) * PROFILE_BINS // (hidden * residual)
    sums = (float(across[bins == b].sum()) for b in range(PROFILE_BINS))
    profile = tuple(part / total if total else 0.0 for part in sums)
    inside = 1.0 if outside == 0 else 1.0 - outside / total
    return int(xp.count_nonzero(weight)), inside, profile


def inspect_checkpoint(path: Path, device: str = "cpu") -> Inspection:
    """Read a model file and compare its MLP weights with the patterns that its header records.

    `device` is "cpu" or "cuda", where the sums are made. Raises FormatError when the file is of
    neither kind or its pattern cannot be, DeviceError when there is no such device.
    """
    from pyllmc import _core

    xp = array_module(device)
    header, tensors = _core.read_model(str(path))
    if header["llmc"]:
        header["precision"] = _core.read_checkpoint_header(str(path))["precision"]
    weights: list[MlpWeight] = []
    warnings: list[str] = []
    for name, tensor in (("fc1", "fcw"), ("fc2", "fcprojw")):
        own = [
            _weight(xp, path, header, tensors, layer, name, tensor)
            for layer in range(len(tensors[tensor]))
        ]
        warnings += _warnings(name, own, header)
        weights += own
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


def _weight(
    xp: Any,
    path: Path,
    header: dict[str, Any],
    tensors: dict[str, np.ndarray],
    layer: int,
    name: str,
    tensor: str,
) -> MlpWeight:
    from pyllmc import _core

    weight, bandwidth = tensors[tensor][layer], header[f"{name}_bandwidth"][layer]
    if header["mlp_rank"]:
        inner = tensors[tensor.removesuffix("w") + "inw"][layer]
        size = weight.size + inner.size
        filled = int(np.count_nonzero(weight)) + int(np.count_nonzero(inner))
        return MlpWeight(layer, name, 0, size, size, filled, 1.0, ())
    rows, cols = weight.shape
    try:
        pattern = _core.Pattern.make(
            header["pattern"],
            rows,
            cols,
            "rows" if name == "fc1" else "cols",
            bandwidth,
            header["mask_seed"],
            f"h.{layer}.",
            f"h.{layer}.{tensor}",
        )
    except UsageError as error:
        raise FormatError(f"{path} describes a model that cannot be: {error}") from error
    facts = weight_facts(xp, xp.asarray(weight), xp.asarray(pattern.mask()), name == "fc1")
    return MlpWeight(layer, name, bandwidth, pattern.kept, pattern.total, *facts)


def _warnings(name: str, weights: list[MlpWeight], header: dict[str, Any]) -> list[str]:
    widths = ", ".join(str(width) for width in dict.fromkeys(w.bandwidth for w in weights))
    kind = "" if header["pattern"] == "band" else f" as {header['pattern']}"
    outside = [w for w in weights if not w.agrees]
    if outside:
        largest = 1 - min(w.inside for w in outside)
        when = (
            ": not masked yet, as --mask-init 0 leaves it before the first update"
            if header["step"] == 0
            else ""
        )
        return [
            f"{name}: the header records bandwidth {widths}{kind}, but up to {largest:.2%} of |W| "
            f"lies outside the band{when}"
        ]
    zeros = 1 - sum(w.nonzero for w in weights) / sum(w.total for w in weights)
    if widths == "0" and zeros > 0.01:
        return [
            f"{name}: the header records a dense weight, but {zeros:.1%} of it is exactly 0: it "
            "may come from a banded run of another program; continuing it without -1 and -2 "
            "makes it dense"
        ]
    return []
