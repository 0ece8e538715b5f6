"""A small experiment on which the runner is tested with a stand-in for the trainer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyllmc import _core, cli

MATRIX = """
schema = 1
title = "Two bands"
description = "For tests."
questions = ["Does it run?"]
baseline = "dense"
[data]
train = "data/t_train.bin"
val = "data/t_val.bin"
[model]
channels = 8
layers = 1
heads = 2
context = 32
vocab = 64
[train]
steps = 6
batch_size = 2
sequence_length = 16
val_every = 3
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "fc1_bw16"
label = "FC1-16"
fc1_bandwidth = 16
[[run]]
name = "fc2_bw16"
label = "FC2-16"
fc2_bandwidth = 16
"""
CELLS = ["dense", "fc1_bw16", "fc2_bw16"]


@dataclass
class Lab:
    """The experiment `exp` in a folder of its own, which is the working directory."""

    root: Path
    program: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def folder(self) -> Path:
        return self.root / "exp"

    def matrix(self, *words: str) -> Result:
        """`pyllmc matrix WORDS`."""
        return CliRunner().invoke(cli.main, ["matrix", *words], prog_name="pyllmc")

    def run(self, *words: str) -> Result:
        return self.matrix("run", "exp", "--program", str(self.program), *words)

    def plan(self, **fates: str) -> None:
        """What befalls each cell, see fake_train.py."""
        self.monkeypatch.setenv("FAKE_PLAN", json.dumps(fates))

    def state(self, cell: str) -> dict[str, Any]:
        return json.loads((self.folder / "cells" / cell / "state.json").read_text())

    def states(self) -> dict[str, str]:
        return {cell: self.state(cell)["state"] for cell in CELLS}

    def starts(self) -> list[str]:
        """The cells that the trainer was started for, in order."""
        path = self.root / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def times(self, cell: str) -> tuple[float, float]:
        """When the trainer was started for a cell, and when it ended."""
        return tuple(
            next(float(line.split()[1]) for line in (self.root / name).read_text().splitlines()
                 if line.split()[0] == cell)
            for name in ("starts", "ends")
        )  # fmt: skip

    def edit(self, before: str, after: str) -> None:
        """Changes the matrix file."""
        file = self.folder / "matrix.toml"
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))


def write_model(path: Path, channels: int = 8, seed: int = 1337) -> None:
    """Initial weights that the matrix did not make itself."""
    _core.init_checkpoint(str(path), channels, 1, 2, 32, 64, "gpt2", seed)


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def runner(lab: Lab, *words: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`pyllmc matrix run exp` as a process of its own, ended with the block."""
    code = "from pyllmc.cli import main; main(prog_name='pyllmc')"
    command = ["matrix", "run", "exp", "--program", str(lab.program), *words]
    process = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.PIPE,
                               stderr=stderr, text=True)  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def running(lab: Lab, cell: str) -> bool:
    log = lab.folder / "logs" / f"log_{cell}.jsonl"
    return log.exists() and '"train"' in log.read_text() and lab.state(cell)["state"] == "running"
