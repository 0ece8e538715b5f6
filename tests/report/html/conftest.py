"""An experiment of three seeds with checkpoints and records, and its report.html."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyllmc.cli import main
from pyllmc.experiments.identity import file_sha256
from pyllmc.experiments.matrix import load_matrix
from pyllmc.experiments.state import State
from pyllmc.models.init import init_model

NASTY = "FC2 </script><img src=x onerror=alert(1)> $x$ & <b>"
MATRIX = """
schema = 1
title = "Page: <three> seeds & one that fails"
description = "Losses written by a test."
questions = ["Is it drawn?"]
baseline = "dense"
seeds = [1, 2, 3]
[data]
train = "data/t_train.bin"
val = "data/t_val.bin"
[model]
channels = 16
layers = 2
heads = 2
context = 32
vocab = 64
[train]
steps = 3000
batch_size = 2
sequence_length = 16
val_every = 100
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "fc1_bw16"
label = "FC1-16"
fc1_bandwidth = 16
[[run]]
name = "fc2_bw16"
label = '%s'
fc2_bandwidth = 16
[[run]]
name = "boom"
label = "Diverges"
fc1_bandwidth = 32
learning_rate = 10.0
"""


def write_experiment(folder: Path) -> None:
    folder.mkdir()
    (folder / "matrix.toml").write_text(MATRIX % NASTY)
    matrix = load_matrix(folder)
    noise = random.Random(1)
    for number, cell in enumerate(matrix.cells()):
        log = matrix.log_path(cell.run, cell.seed)
        log.parent.mkdir(exist_ok=True)
        boom = cell.run.name == "boom"
        shift = {"dense": 0.0, "fc1_bw16": 0.05, "fc2_bw16": -0.03, "boom": 0.2}[cell.run.name]
        text, lines = [], [{"type": "settings", "memory_bytes": 2**20 * (20 + number % 4)}]
        for step in range(0, 3001 if not boom else 901):
            loss = 2 + shift + 4 * math.exp(-step / 400) + 0.01 * noise.random()
            if boom and step == 900:
                loss = math.nan
            if step % 100 == 0:
                text.append(f"s:{step} tel:{loss:.4f}")
                lines.append({"type": "val", "step": step, "loss": loss, "tokens": 320})
                text.append(f"s:{step} tsb:{loss - 0.1:.4f}")
                lines.append({"type": "train_subset", "step": step, "loss": loss - 0.1})
            if step < 3000:
                text.append(f"s:{step} trl:{loss + 0.1 * noise.random():.4f}")
                lines.append(
                    {"type": "train", "step": step, "loss": loss, "ms": 5.0,
                     "tokens_per_second": 1000.0 + number}
                )  # fmt: skip
        lines.append({"type": "end", "step": step, "status": "diverged" if boom else "done"})
        log.write_text("\n".join(text) + "\n")
        log.with_suffix(".jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
        record = matrix.cell_dir(cell.run, cell.seed)
        record.mkdir(parents=True)
        (record / "config.json").write_text(
            json.dumps(
                {
                    "cell": cell.name,
                    "command": ["train_banded", "--init-seed", str(cell.seed)],
                    "git": {"commit": "c0ffee", "dirty": True, "diff": "-a </script>\n+b"},
                    "host": "machine",
                }
            )
        )
        (record / "attempts" / "1").mkdir(parents=True)
        for path, state in (
            ("attempts/1/state.json", State("preempted", 1, step=700, message="runner killed")),
            ("state.json", State("diverged" if boom else "done", 2, host="machine",
                                 log_sha256=file_sha256(log))),
        ):  # fmt: skip
            (record / path).write_text(json.dumps(asdict(state)))
        checkpoint = matrix.checkpoint_path(cell.run, cell.seed)
        if cell.seed == 2 and not boom:
            init_model(checkpoint, 16, 2, 2, 32, 64, seed=cell.seed)
    spoiled = matrix.checkpoint_path(matrix.runs[3], 2)
    spoiled.write_bytes(b"not a checkpoint")


def report(folder: Path) -> Result:
    return CliRunner().invoke(main, ["report", str(folder)])


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment's folder with its report, to look at and not to change."""
    pytest.importorskip("plotly", reason="pip install 'pyllmc[report]'")
    folder = tmp_path_factory.mktemp("page") / "experiment"
    write_experiment(folder)
    result = report(folder)
    assert result.exit_code == 0, result.output
    return folder


# A learning-rate axis, a band with its controls, and a test loss.
TUNED = """
schema = 1
title = "Rates and controls"
description = "Losses written by a test."
baseline = "dense"
seeds = [1, 2, 3]
[data]
train = "data/t_train.bin"
val = "data/t_val.bin"
test = "data/t_test.bin"
[model]
channels = 128
layers = 1
heads = 2
context = 32
vocab = 64
[train]
steps = 400
batch_size = 2
sequence_length = 16
val_every = 100
learning_rate = [1e-4, 3e-4, 1e-3]
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "band"
label = "Band"
fc1_bandwidth = 256
fc2_bandwidth = 256
[[run]]
name = "random"
label = "Random places"
pattern = "random"
fc1_bandwidth = 256
fc2_bandwidth = 256
[[run]]
name = "renamed"
label = "Renamed"
pattern = "band-permuted-hidden"
fc1_bandwidth = 256
fc2_bandwidth = 256
"""
# The band looks better at the two lower rates, where it only learns faster.
TUNED_SHIFTS = {
    ("dense", 1e-4): 0.30, ("dense", 3e-4): 0.15, ("dense", 1e-3): 0.0,
    ("band", 1e-4): 0.20, ("band", 3e-4): 0.05, ("band", 1e-3): 0.1,
}  # fmt: skip


def write_tuned(folder: Path) -> None:
    folder.mkdir()
    (folder / "matrix.toml").write_text(TUNED)
    matrix = load_matrix(folder)
    noise = random.Random(2)
    for cell in matrix.cells():
        log = matrix.log_path(cell.run, cell.seed)
        log.parent.mkdir(exist_ok=True)
        arm = "band" if cell.run.arm == "renamed" else cell.run.arm
        shift = TUNED_SHIFTS.get((arm, cell.run.learning_rate), 0.4)
        end = 2 + shift + 0.05 * (cell.seed or 0) + 0.002 * noise.random()
        lines = [f"s:{step} tel:{end + math.exp(-step / 100):.4f}" for step in range(0, 401, 100)]
        log.write_text("\n".join([*lines, f"s:400 tsl:{end:.4f}"]) + "\n")


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a learning-rate axis and controls, with its report."""
    pytest.importorskip("plotly", reason="pip install 'pyllmc[report]'")
    folder = tmp_path_factory.mktemp("page") / "tuned"
    write_tuned(folder)
    result = report(folder)
    assert result.exit_code == 0, result.output
    return folder
