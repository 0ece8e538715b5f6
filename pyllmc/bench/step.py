"""Time and memory of a training step, measured on the program train_banded itself."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.bench.rounds import Contestant
from pyllmc.errors import DeviceError, DivergedError, FormatError, PyllmcError, UsageError
from pyllmc.models.shape import (
    TRAINING_FLOPS_PER_MAC,
    band_macs,
    forward_macs,
    padded_vocab,
    parameters,
)
from pyllmc.programs import how_ended, train_banded_path

_UNTIMED = 2


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
    def dense(self) -> StepShape:
        """The same without bands."""
        return replace(self, fc1_bandwidth=0, fc2_bandwidth=0)

    def _mlp(self) -> dict[str, Any]:
        """Patterns of a layer's FC1 and FC2 by name."""
        from pyllmc._core import Pattern

        hidden = 4 * self.channels
        return {
            "fc1": Pattern.band(hidden, self.channels, self.fc1_bandwidth),
            "fc2": Pattern.band(self.channels, hidden, self.fc2_bandwidth),
        }

    def mlp_floats(self, execution: str) -> int:
        """Floats stored for the MLP matrices of a layer; `execution` "band" stores and multiplies a
        band alone where that pays, "mask" the whole matrix."""
        return sum(
            p.tile_floats if execution == "band" and p.pays else p.total
            for p in self._mlp().values()
        )

    def mlp_macs(self, execution: str) -> float:
        """Multiply-adds a token of these matrices, the mean of a step's three products."""
        return sum(
            band_macs(name, p) if execution == "band" and p.pays else p.total
            for name, p in self._mlp().items()
        )

    def parameters(self, execution: str) -> int:
        """Floats stored for all weights, biases and embeddings."""
        return parameters(
            channels=self.channels,
            layers=self.layers,
            context=self.sequence_length,
            padded_vocab=padded_vocab(self.vocab),
            hidden=4 * self.channels,
            mlp=self.layers * self.mlp_floats(execution),
        )

    def flop(self, execution: str) -> float:
        """Floating-point operations that a step executes."""
        macs = forward_macs(
            channels=self.channels,
            layers=self.layers,
            sequence_length=self.sequence_length,
            vocab=self.vocab,
            mlp=self.layers * self.mlp_macs(execution),
        )
        return TRAINING_FLOPS_PER_MAC * self.tokens * macs

    def least_bytes(self, execution: str) -> float:
        """Bytes that must pass to or from memory: each weight, gradient and two moments read and
        written once. Activations may stay in caches."""
        return 32.0 * self.parameters(execution)


class Workbench:
    """A folder with random tokens and, for each shape, random weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def contestant(
        self,
        name: str,
        shape: StepShape,
        *,
        steps: int,
        threads: int,
        execution: str = "band",
        precision: str = "fp32",
        against: tuple[str, ...] = (),
    ) -> Contestant:
        """Trains a fresh process; a round's time is the median over its `steps` timed steps."""
        facts: dict[str, Any] = {"shape": asdict(shape), "execution": execution}

        def run() -> float:
            seconds, memory = self._train(shape, steps, threads, execution, precision)
            facts["peak_memory"] = max(memory, facts.get("peak_memory", 0))
            return seconds

        return Contestant(
            name,
            run,
            flop=shape.flop(execution),
            bytes=shape.least_bytes(execution),
            precision=precision,
            tokens=shape.tokens,
            against=against,
            facts=facts,
        )

    def _train(
        self, shape: StepShape, steps: int, threads: int, execution: str, precision: str
    ) -> tuple[float, int]:
        tokens, log = self._tokens(shape), self.folder / "log.txt"
        command = [str(train_banded_path())]
        settings: dict[str, object] = {
            "log": log,
            "model": self._model(shape),
            "train-data": tokens,
            "val-data": tokens,
            "steps": _UNTIMED + steps,
            "batch-size": shape.batch_size,
            "sequence-length": shape.sequence_length,
            "fc1-bandwidth": shape.fc1_bandwidth,
            "fc2-bandwidth": shape.fc2_bandwidth,
            "execution": execution,
            "precision": precision,
            "val-every": 0,
            "val-batches": 1,
            "sample-length": 0,
            "threads": threads,
            "device": "cpu",
        }
        for flag, value in settings.items():
            command += [f"--{flag}", str(value)]
        memory = _run(command)
        events = [json.loads(line) for line in log.with_suffix(".jsonl").read_text().splitlines()]
        timed = [event["ms"] for event in events if event["type"] == "train"][_UNTIMED:]
        return statistics.median(timed) / 1e3, memory

    def _model(self, shape: StepShape) -> Path:
        from pyllmc.models.init import init_model

        sizes = (
            shape.channels,
            shape.layers,
            shape.heads,
            shape.sequence_length,
            shape.vocab,
        )
        path = self.folder / f"model_{'_'.join(map(str, sizes))}.bin"
        if not path.exists():
            init_model(path, *sizes)
        return path

    def _tokens(self, shape: StepShape) -> Path:
        from pyllmc.data.token_file import token_file_writer

        path = self.folder / f"tokens_{shape.vocab}_{shape.tokens}.bin"
        if not path.exists():
            random = np.random.default_rng(0)
            with token_file_writer(path) as out:
                out.append(random.integers(0, shape.vocab, 4 * shape.tokens + 1, dtype=np.uint16))
        return path


@contextmanager
def workbench() -> Iterator[Workbench]:
    """A workbench whose folder is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pyllmc-bench-") as name:
        yield Workbench(Path(name))


def our_contestants(
    bench: Workbench,
    shape: StepShape,
    *,
    steps: int,
    threads: int,
    executions: Sequence[str],
    precisions: Sequence[str],
    peers: Sequence[str] = (),
) -> list[Contestant]:
    """A dense step in each precision and, where the shape has bands, one for each execution, held
    against dense and against the `peers` of the same precision."""
    found = []
    for precision in precisions:
        alike = tuple(peer for peer in peers if precision in peer)
        dense = f"dense {precision}"
        variants = [(dense, shape.dense, "band", alike)]
        if shape != shape.dense:
            variants += [
                (f"{execution} {precision}", shape, execution, (dense, *alike))
                for execution in executions
            ]
        found += [
            bench.contestant(
                name,
                what,
                steps=steps,
                threads=threads,
                execution=execution,
                precision=precision,
                against=against,
            )
            for name, what, execution, against in variants
        ]
    return found


# A program counts the memory of the process that started it as its own peak, so a small one does.
_LAUNCH = """
import os, sys
child = os.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
"""
_ERRORS = (UsageError, DivergedError, FormatError, DeviceError)


def _run(command: list[str]) -> int:
    """Run a program quietly; its peak resident memory in bytes. Raises the error that its exit code
    stands for."""
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, *command]
    done = subprocess.run(launch, capture_output=True, text=True, errors="replace")
    memory, code = 0, done.returncode
    if code == 0:
        memory, code = map(int, done.stdout.split()[-2:])
    if code == 0:
        return memory
    kind = next((error for error in _ERRORS if error.exit_code == code), PyllmcError)
    words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = f": {words[-1]}" if words else ""
    raise kind(f"{Path(command[0]).name} {how_ended(code)}{last}")
