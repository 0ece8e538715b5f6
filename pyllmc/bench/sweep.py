"""Step time and memory against bandwidth, and the growth of a step with B, T, C and L."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.bench.machine import Peak, identity
from pyllmc.bench.rounds import compete, result
from pyllmc.bench.step import StepShape, Workbench, workbench
from pyllmc.errors import UsageError
from pyllmc.files import atomic_write
from pyllmc.terminal import clock, say

# What makes a measured part stale: anything else may differ between two sittings of a sweep.
_SAME = ("settings", "program_sha256", "processor", "processors")
_SCALED = 256  # C while B, T or L changes
_AXES = {
    "B": ("batch_size", (2, 4, 8, 16)),
    "T": ("sequence_length", (64, 128, 256, 512)),
    "C": ("channels", (128, 256, 512, 1024)),
    "L": ("layers", (1, 2, 4, 8)),
}
# A round of a small step times as many as make this much arithmetic, within the limit.
_LEAST_FLOP = 1e11
_MOST_STEPS = 20


@dataclass(frozen=True)
class Part:
    """Shapes that are measured in turn, by the names of their rows."""

    name: str
    shapes: Mapping[str, StepShape]
    precision: str
    steps: int  # timed in a round, at least
    threads: int
    repeats: int

    def settings(self) -> dict[str, Any]:
        """What the part's figures depend on, as JSON reads it back."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    def timed(self, shape: StepShape) -> int:
        """Steps of a shape that a round times; the same with a band as without."""
        return max(self.steps, min(_MOST_STEPS, round(_LEAST_FLOP / shape.dense.flop("mask"))))

    def seconds(self, flops: float) -> float:
        """About how long it takes where a step runs at `flops` operations a second."""
        # A run starts a program that reads its model, and does two steps untimed.
        each = [
            0.4 + (self.timed(shape) + 2) * shape.flop("band") / flops
            for shape in self.shapes.values()
        ]
        return self.repeats * sum(each)

    def measure(self, bench: Workbench) -> dict[str, Any]:
        """Time, memory and cost of every shape, held against the one named "dense"."""
        contestants = [
            bench.contestant(
                name,
                shape,
                steps=self.timed(shape),
                threads=self.threads,
                precision=self.precision,
                against=("dense",) if name.isdigit() else (),
            )
            for name, shape in self.shapes.items()
        ]
        peak = Peak(self.threads, (self.precision,))
        compete(contestants, self.repeats, peak, self.name)
        found = result("step", self.settings(), contestants, peak)
        for row, shape in zip(found["rows"], self.shapes.values(), strict=True):
            row |= _cost(shape)
        return found


@dataclass(frozen=True)
class Sweep:
    """Shapes and effort. Heads have 64 channels (C / 2 where C < 128), or what divides C."""

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
        """Measure what `out` does not hold yet, write tables and plots; the files written.

        Every part is kept in sweep.json as soon as it is measured. Raises UsageError when that file
        holds a sweep with other settings.
        """
        from pyllmc.bench.sweep_plots import draw
        from pyllmc.bench.sweep_tables import markdown

        store = out / "sweep.json"
        settings = json.loads(json.dumps(asdict(self)))
        before = _read(store)
        if before.get("settings", settings) != settings:
            raise UsageError(
                f"{store} holds a sweep with other settings: name another folder by --out, or "
                "delete the file"
            )
        # Before anything is written: these files may themselves be in the checkout.
        code = identity()
        parts = self._parts()
        found: dict[str, Any] = {
            part.name: before.get("parts", {}).get(part.name) for part in parts
        }
        missing = [part for part in parts if not _current(found[part.name], part, code)]
        if len(missing) < len(parts):
            say(f"{store} holds {len(parts) - len(missing)} of {len(parts)} parts.")
        whole: dict[str, Any] = {"bench": "sweep", "settings": settings, "parts": found}
        with workbench() as bench:
            for part in _announced(missing):
                found[part.name] = part.measure(bench) | _same_code(code)
                atomic_write(store, json.dumps(whole, indent=2) + "\n")
        scaling = {name: part for name, part in found.items() if name.startswith("scaling")}
        whole["slopes"] = {
            name: {"step": slope(part, "median_s"), "arithmetic": slope(part, "gflop")}
            for name, part in scaling.items()
        }
        atomic_write(store, json.dumps(whole, indent=2) + "\n")
        atomic_write(out / "sweep.md", markdown(whole))
        return [out / "sweep.md", store, *draw(whole, out)]

    def _parts(self) -> list[Part]:
        found = []
        for precision in self.precisions:
            effort = (precision, self.steps, self.threads, self.repeats)
            found += [
                Part(f"bandwidth_C{channels}_{precision}", self._bands(channels), *effort)
                for channels in self.channels
            ]
            for axis, (key, sizes) in _AXES.items():
                shrink = self.shrink if axis in "TC" else 1
                shapes = {
                    f"{axis}={size // shrink}": _with(
                        self._shape(_SCALED // self.shrink), key, size // shrink
                    )
                    for size in sizes[: self.points]
                }
                found.append(Part(f"scaling_{axis}_{precision}", shapes, *effort))
        return found

    def _shape(self, channels: int) -> StepShape:
        return StepShape(
            channels,
            self.layers,
            _heads(channels),
            self.vocab,
            self.batch_size,
            self.sequence_length,
        )

    def _bands(self, channels: int) -> dict[str, StepShape]:
        """Dense, then both bandwidths from C / 8, doubling up to 4 C, and 6 C."""
        dense = self._shape(channels)
        bands = [max(1, channels * 2**power // 8) for power in range(6)] + [6 * channels]
        return {"dense": dense} | {
            str(bandwidth): replace(dense, fc1_bandwidth=bandwidth, fc2_bandwidth=bandwidth)
            for bandwidth in bands
        }


def _announced(parts: list[Part]) -> Iterator[Part]:
    """Each part, after a line that says how long all that is left takes."""
    if not parts:
        return
    peak = Peak(parts[0].threads)
    peak.sample()
    flops = peak.flops("fp32") / 2
    start = time.monotonic()
    for number, part in enumerate(parts):
        left = sum(other.seconds(flops) for other in parts[number:])
        if number:
            # What the parts before took in fact corrects the guess.
            passed = time.monotonic() - start
            left *= passed / sum(other.seconds(flops) for other in parts[:number])
        say(f"part {number + 1} of {len(parts)}, {part.name}: about {clock(left)} left in all")
        yield part


def _heads(channels: int) -> int:
    most = max(2, channels // 64)
    return next(heads for heads in range(most, 0, -1) if channels % heads == 0)


def _with(shape: StepShape, key: str, size: int) -> StepShape:
    if key == "channels":
        return replace(shape, channels=size, heads=_heads(size))
    return replace(shape, **{key: size})


def _cost(shape: StepShape) -> dict[str, Any]:
    """Density of fc1, bytes of the MLP matrices with gradients and moments in a layer, and their
    share of dense ones; the share of a dense step's operations."""
    from pyllmc._core import Pattern

    c = shape.channels
    return {
        "density": Pattern.band(4 * c, c, shape.fc1_bandwidth).density,
        "mlp_bytes": 16 * shape.mlp_floats("band"),
        "mlp_share_of_dense": shape.mlp_floats("band") / shape.dense.mlp_floats("band"),
        "flop_share_of_dense": shape.flop("band") / shape.dense.flop("band"),
    }


def slope(part: Mapping[str, Any], key: str) -> float:
    """Exponent of the rows' `key` in the size that their names give ("B=4"), by least squares on
    logarithms."""
    sizes = [int(row["name"].partition("=")[2]) for row in part["rows"]]
    return float(np.polyfit(np.log(sizes), np.log([row[key] for row in part["rows"]]), 1)[0])


def _same_code(code: Mapping[str, Any]) -> dict[str, Any]:
    return {key: code[key] for key in ("commit", "uncommitted_changes")}


def _current(kept: Any, part: Part, code: Mapping[str, Any]) -> bool:
    wanted = {**code, "settings": part.settings()}
    return isinstance(kept, dict) and all(kept.get(key) == wanted[key] for key in _SAME)


def _read(path: Path) -> dict[str, Any]:
    """A sweep measured before, all or in part; empty when there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
