"""Step time and memory against bandwidth, and the growth of a step with B, T, C and L."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.bench.machine import Peak, identity
from pyllmc.bench.rounds import compete, result
from pyllmc.bench.step import StepShape, Workbench, workbench
from pyllmc.data.progress import say
from pyllmc.files import atomic_write

# What makes a measured part stale: anything else may differ between two sittings of a sweep.
_SAME = ("settings", "program_sha256", "processor", "processors")
_SCALED = 256  # C while B, T or L changes
_AXES = {
    "B": ("batch_size", (2, 4, 8, 16)),
    "T": ("sequence_length", (64, 128, 256, 512)),
    "C": ("channels", (128, 256, 512, 1024)),
    "L": ("layers", (1, 2, 4, 8)),
}


@dataclass(frozen=True)
class Sweep:
    """Shapes and effort. Heads have 64 channels (C / 2 where C < 128)."""

    channels: tuple[int, ...]
    layers: int
    vocab: int
    batch_size: int
    sequence_length: int
    precisions: tuple[str, ...]
    steps: int
    threads: int
    repeats: int
    points: int = 4  # sizes of an axis
    shrink: int = 1  # divides the sizes of C and T

    def quick(self) -> Sweep:
        """The same tables at sizes that take seconds."""
        return replace(
            self,
            channels=(32, 64),
            layers=1,
            vocab=256,
            batch_size=2,
            sequence_length=32,
            steps=1,
            repeats=1,
            points=2,
            shrink=8,
        )

    def run(self, out: Path) -> list[Path]:
        """Measure what `out` does not hold yet, write tables and plots; the files written."""
        from pyllmc.bench.sweep_report import draw, markdown

        parts: dict[str, dict[str, Any]] = {}
        with workbench() as bench:
            for name, shapes, precision in self._parts():
                parts[name] = self._part(out / "parts" / f"{name}.json", bench, shapes, precision)
        found = {
            "bench": "sweep",
            **identity(),
            "settings": asdict(self),
            "parts": parts,
            "slopes": {
                name: slope(part) for name, part in parts.items() if name.startswith("scaling")
            },
        }
        atomic_write(out / "sweep.json", json.dumps(found, indent=2) + "\n")
        atomic_write(out / "sweep.md", markdown(found))
        return [out / "sweep.md", out / "sweep.json", *draw(found, out)]

    def _parts(self) -> Iterator[tuple[str, list[tuple[str, StepShape]], str]]:
        for precision in self.precisions:
            for channels in self.channels:
                yield f"bandwidth_C{channels}_{precision}", self._bands(channels), precision
            for axis, (key, sizes) in _AXES.items():
                shrink = self.shrink if axis in "TC" else 1
                shapes = [
                    (
                        f"{axis}={size // shrink}",
                        _with(self._shape(_SCALED // self.shrink), key, size // shrink),
                    )
                    for size in sizes[: self.points]
                ]
                yield f"scaling_{axis}_{precision}", shapes, precision

    def _shape(self, channels: int) -> StepShape:
        return StepShape(
            channels,
            self.layers,
            _heads(channels),
            self.vocab,
            self.batch_size,
            self.sequence_length,
        )

    def _bands(self, channels: int) -> list[tuple[str, StepShape]]:
        """Dense, then both bandwidths from C / 8, doubling up to 4 C."""
        dense = self._shape(channels)
        bands = [channels // 8 * 2**power for power in range(6)]
        return [("dense", dense)] + [
            (str(bandwidth), replace(dense, fc1_bandwidth=bandwidth, fc2_bandwidth=bandwidth))
            for bandwidth in bands
        ]

    def _part(
        self, path: Path, bench: Workbench, shapes: Sequence[tuple[str, StepShape]], precision: str
    ) -> dict[str, Any]:
        settings = {
            "steps": self.steps,
            "threads": self.threads,
            "repeats": self.repeats,
            "precision": precision,
            "shapes": {name: asdict(shape) for name, shape in shapes},
        }
        wanted = {**identity(), "settings": settings}
        kept = _read(path)
        if all(kept.get(key) == wanted[key] for key in _SAME):
            say(f"{path} is up to date.")
            return kept
        contestants = [
            bench.contestant(
                name,
                shape,
                steps=self.steps,
                threads=self.threads,
                precision=precision,
                against=("dense",) if name.isdigit() else (),
            )
            for name, shape in shapes
        ]
        peak = Peak(self.threads, (precision,))
        compete(contestants, self.repeats, peak, path.stem)
        part = result("step", settings, contestants, peak)
        for row, (_, shape) in zip(part["rows"], shapes, strict=True):
            row |= _cost(shape)
        atomic_write(path, json.dumps(part, indent=2) + "\n")
        return part


def _heads(channels: int) -> int:
    return max(2, channels // 64)


def _with(shape: StepShape, key: str, size: int) -> StepShape:
    if key == "channels":
        return replace(shape, channels=size, heads=_heads(size))
    return replace(shape, **{key: size})


def _cost(shape: StepShape) -> dict[str, Any]:
    """Density of fc1, and bytes of the MLP matrices with gradients and moments in a layer."""
    from pyllmc._core import bench

    c = shape.channels
    return {
        "density": bench.band_facts(c, 4 * c, shape.fc1_bandwidth)["density"],
        "mlp_bytes": 16 * shape.mlp_floats("band"),
        "mlp_share_of_dense": shape.mlp_floats("band") / shape.dense.mlp_floats("band"),
    }


def slope(part: Mapping[str, Any]) -> float:
    """Exponent of the step's median time in the size that the rows' names give ("B=4"), by least
    squares on logarithms."""
    sizes = [int(row["name"].partition("=")[2]) for row in part["rows"]]
    times = [row["median_s"] for row in part["rows"]]
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def _read(path: Path) -> dict[str, Any]:
    """A part measured before; empty when there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
