"""Time and memory of a training step, measured on the program train_banded itself."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.errors import PyllmcError


@dataclass(frozen=True)
class StepShape:
    """What is trained: sizes in the field's letters, bandwidths on the hidden axis (0 = dense)."""

    channels: int
    layers: int
    heads: int
    vocab: int
    batch_size: int
    sequence_length: int
    fc1_bandwidth: int = 0
    fc2_bandwidth: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a step, B T."""
        return self.batch_size * self.sequence_length

    @property
    def nominal_flop(self) -> float:
        """Floating-point operations of a step with dense weights.

        Six per weight and token for the matrices of the blocks and the head (2 forward, 4 back),
        and 12 T C per layer and token for attention's two products, half of which causality saves.
        """
        c, t = self.channels, self.sequence_length
        weights = self.layers * 12 * c * c + self.vocab * c
        return float(self.tokens * (6 * weights + 6 * self.layers * t * c))


@dataclass(frozen=True)
class StepTiming:
    """Milliseconds of each timed step, and the peak memory of the process in bytes."""

    milliseconds: tuple[float, ...]
    peak_memory: int
    threads: int
    gemm: str

    @property
    def median_ms(self) -> float:
        return statistics.median(self.milliseconds)

    def as_dict(self, shape: StepShape) -> dict[str, Any]:
        """Plain values for JSON."""
        seconds = self.median_ms / 1e3
        return {
            **asdict(shape),
            **asdict(self),
            "median_ms": self.median_ms,
            "tokens_per_second": shape.tokens / seconds,
            "nominal_gflop_per_second": shape.nominal_flop / seconds / 1e9,
        }


def time_steps(shape: StepShape, steps: int, threads: int) -> StepTiming:
    """Train `steps` timed steps after two untimed ones, from random weights on random tokens.

    Raises PyllmcError when the program fails.
    """
    from pyllmc.data.token_file import token_file_writer
    from pyllmc.models.init import init_model
    from pyllmc.programs import train_banded_path

    untimed = 2
    with tempfile.TemporaryDirectory(prefix="pyllmc-bench-") as name:
        folder = Path(name)
        init_model(
            folder / "model.bin",
            shape.channels,
            shape.layers,
            shape.heads,
            shape.sequence_length,
            shape.vocab,
        )
        tokens = np.random.default_rng(0).integers(
            0, shape.vocab, 4 * shape.tokens + 1, dtype=np.uint16
        )
        with token_file_writer(folder / "tokens.bin") as out:
            out.append(tokens)
        command = [str(train_banded_path()), "--log", str(folder / "log.txt")]
        for flag, value in (
            ("model", folder / "model.bin"),
            ("train-data", folder / "tokens.bin"),
            ("val-data", folder / "tokens.bin"),
            ("steps", untimed + steps),
            ("batch-size", shape.batch_size),
            ("sequence-length", shape.sequence_length),
            ("fc1-bandwidth", shape.fc1_bandwidth),
            ("fc2-bandwidth", shape.fc2_bandwidth),
            ("val-every", 0),
            ("val-batches", 1),
            ("sample-length", 0),
            ("threads", threads),
        ):
            command += [f"--{flag}", str(value)]
        peak_memory = _run(command)
        events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    settings = next(event for event in events if event["type"] == "settings")
    timed = [event["ms"] for event in events if event["type"] == "train"][untimed:]
    gemm = f"{settings['gemm']} {settings['gemm_core']}".strip()
    return StepTiming(tuple(timed), peak_memory, settings["threads"], gemm)


def _run(command: list[str]) -> int:
    """Run a program quietly; its peak resident memory in bytes."""
    with tempfile.TemporaryFile() as messages:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            messages.seek(0)
            raise PyllmcError(messages.read().decode(errors="replace").strip())
    return usage.ru_maxrss * 1024
