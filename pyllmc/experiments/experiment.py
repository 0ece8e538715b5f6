"""An experiment as its matrix file describes it: runs, cells, and where their files lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyllmc.experiments.settings import SETTINGS


@dataclass(frozen=True)
class Data:
    """Token files, relative to the working directory; `train` and `val` may be globs of shards.

    `prepare` names the built-in data that is made when the files are missing.
    """

    train: str
    val: str
    test: str | None = None
    prepare: str | None = None


@dataclass(frozen=True)
class Model:
    """How the initial weights are made when `file` (in the output folder) is missing.

    `hidden` is the MLP's width H, 0 for 4C; `mlp_rank` that of both MLP weights, 0 for full ones.
    """

    channels: int
    layers: int
    heads: int
    context: int
    vocab: int
    init: str = "gpt2"
    seed: int = 1337
    file: str = "model.bin"
    hidden: int = 0
    mlp_rank: int = 0

    @property
    def hidden_width(self) -> int:
        """H."""
        return self.hidden or 4 * self.channels


@dataclass(frozen=True)
class Weights:
    """The initial weights of a cell: a file, the model it holds and the seed it is drawn from."""

    path: Path
    model: Model
    seed: int


@dataclass(frozen=True)
class Run:
    """One row of the matrix: common settings with the run's own on top.

    A row whose learning rate is a list stands for one run a rate: `arm` is the name that they share
    (the row's), `name` the arm's with `_lr1e-3` and so on. Elsewhere both are the same.
    `baseline` names the arm that this one is compared with (the matrix's, unless the run says
    otherwise); `data` and `model` are the matrix's with the run's own on top.
    """

    name: str
    label: str
    settings: Mapping[str, Any]
    data: Data
    baseline: str
    arm: str
    model: Model

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""
        return float(self.settings.get("learning_rate", SETTINGS["learning_rate"].default))

    @property
    def pattern(self) -> str:
        """Where the weights that a bandwidth keeps are placed."""
        return str(self.settings.get("pattern", "band"))

    @property
    def mask_seed(self) -> int:
        """What a drawn pattern comes from."""
        return int(self.settings.get("mask_seed", SETTINGS["mask_seed"].default))

    @property
    def fc1_bandwidths(self) -> tuple[int, ...]:
        """Bandwidth of the up-projection in every layer, on the hidden axis, 0 = dense."""
        return self._bandwidths("fc1_bandwidth")

    @property
    def fc2_bandwidths(self) -> tuple[int, ...]:
        """Bandwidth of the down-projection in every layer, on the hidden axis, 0 = dense."""
        return self._bandwidths("fc2_bandwidth")

    @property
    def fc1_bandwidth(self) -> int:
        """The up-projection's bandwidth; the largest where layers differ (dense counts as that)."""
        return _widest(self.fc1_bandwidths)

    @property
    def fc2_bandwidth(self) -> int:
        """The down-projection's bandwidth; the largest where layers differ."""
        return _widest(self.fc2_bandwidths)

    def kept(self, weight: str) -> tuple[int, int]:
        """Of "fc1" or "fc2" in all layers: how many weights may be non-zero, and how many full
        matrices of H x C would have. A low-rank weight counts both its factors."""
        from pyllmc._core import Pattern

        hidden, width = self.model.hidden_width, self.model.channels
        layers, rank = self.model.layers, self.model.mlp_rank
        total = layers * hidden * width
        if rank:
            return layers * rank * (hidden + width), total
        first = weight == "fc1"
        shape = (hidden, width, "rows") if first else (width, hidden, "cols")
        name = "fcw" if first else "fcprojw"
        return sum(
            Pattern.make(
                self.pattern, *shape, bandwidth, self.mask_seed, f"h.{at}.", f"h.{at}.{name}"
            ).kept
            for at, bandwidth in enumerate(self._bandwidths(f"{weight}_bandwidth"))
        ), total

    def _bandwidths(self, key: str) -> tuple[int, ...]:
        value = self.settings.get(key, 0)
        if isinstance(value, tuple):
            return value
        return (int(value),) * self.model.layers


def _widest(bandwidths: tuple[int, ...]) -> int:
    return 0 if 0 in bandwidths else max(bandwidths)


@dataclass(frozen=True)
class Expectation:
    """A prediction: the final validation loss of `run` is from `low_percent` to `high_percent`
    above that of the run `against` (an open side is None)."""

    text: str
    run: str
    against: str
    low_percent: float | None
    high_percent: float | None


@dataclass(frozen=True)
class Cell:
    """One training run: a row of the matrix under one seed (None: the program's defaults)."""

    run: Run
    seed: int | None

    @property
    def name(self) -> str:
        """`<run>`, or `<run>_s<seed>`; names the cell's folder, log and checkpoint."""
        return self.run.name if self.seed is None else f"{self.run.name}_s{self.seed}"


@dataclass(frozen=True)
class Matrix:
    """A checked matrix file. Everything that a run leaves behind lies under `out`.

    `baseline` is an arm's name (see Run); `margin` the difference in nats up to which one arm
    counts as good as another, None when the file declares none.
    """

    folder: Path
    out: Path
    title: str
    description: str
    questions: tuple[str, ...]
    baseline: str
    reference: Path | None
    expectations: tuple[Expectation, ...]
    seeds: tuple[int | None, ...]
    data: Data
    model: Model
    runs: tuple[Run, ...]
    margin: float | None = None

    def cells(self) -> Iterator[Cell]:
        """Every (run, seed), seeds outermost, so that a stopped matrix holds whole seeds."""
        for seed in self.seeds:
            for run in self.runs:
                yield Cell(run, seed)

    def log_path(self, run: Run, seed: int | None) -> Path:
        """The log in llm.c's lines; its full-precision twin has the suffix .jsonl."""
        return self.out / "logs" / f"log_{Cell(run, seed).name}.txt"

    def checkpoint_path(self, run: Run, seed: int | None) -> Path:
        """The trained weights."""
        return self.out / "checkpoints" / f"ckpt_{Cell(run, seed).name}.bin"

    def weights(self, run: Run, seed: int | None) -> Weights:
        """The initial weights that a cell starts from.

        Drawn from the run's `init_seed`, else from the cell's seed, else from the model's; all
        runs of equal shape and seed share a file.
        """
        own = run.settings.get("init_seed", seed)
        drawn = run.model.seed if own is None else int(own)
        path = self.out / run.model.file
        parts = [path.stem]
        if run.model.hidden != self.model.hidden:
            parts.append(f"h{run.model.hidden_width}")
        if run.model.mlp_rank != self.model.mlp_rank:
            parts.append(f"r{run.model.mlp_rank}")
        if own is not None:
            parts.append(f"s{drawn}")
        return Weights(path.with_name("_".join(parts) + path.suffix), run.model, drawn)

    def model_path(self, seed: int | None) -> Path:
        """The initial weights of the baseline under a seed."""
        arms = [run for run in self.runs if run.arm == self.baseline]
        return self.weights(arms[0], seed).path

    def cell_dir(self, run: Run, seed: int | None) -> Path:
        """Configuration, state and attempts of a cell."""
        return self.out / "cells" / Cell(run, seed).name
