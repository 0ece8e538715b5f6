"""From nothing to a report: the demo's matrix at a tiny scale, on the built-in stories."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from pyllmc.data.statistics import unigram_entropy

# A quarter of the demo's width: bandwidth 1024 still keeps everything, 256 still does not.
CHANNELS, STEPS = 64, 150
DENSE, BANDED = ["baseline", "fc1_bw1024"], ["fc1_bw256", "both_bw256"]
RUNS = DENSE + BANDED
SMALL = {
    "steps": STEPS,
    "batch_size": 8,
    "sequence_length": 64,
    "learning_rate": 4e-3,
    "val_every": 50,
    "sample_every": 0,
    "model.channels": CHANNELS,
    "model.layers": 1,
    "model.context": 64,
}
SET = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


def pyllmc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "from pyllmc.cli import main; main(prog_name='pyllmc')"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A folder in which four of the demo's runs were made, with their results in out/."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "demo").mkdir()
    shutil.copy(repo_root / "runs/demo/matrix.toml", folder / "demo")
    only = [word for run in RUNS for word in ("--only", run)]
    pyllmc(folder, "matrix", "run", "demo", "--out", "out", "--threads-per-job", "1", *only, *SET)
    return folder


def losses(folder: Path, split: str) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) of every run, as `pyllmc parse` tells them."""
    out = pyllmc(folder, "parse", "out/logs", "--format", "csv", "--split", split).stdout
    runs = defaultdict(list)
    for row in csv.DictReader(io.StringIO(out)):
        runs[row["run"]].append((int(row["step"]), float(row["loss"])))
    return runs


def test_every_run_learns_more_than_the_tokens_frequencies(finished: Path) -> None:
    entropy = unigram_entropy(finished / "data/ministories/ministories_val.bin")
    runs = losses(finished, "val")
    assert set(runs) == set(RUNS)
    for name, curve in runs.items():
        assert [step for step, _ in curve] == [0, 50, 100, STEPS], name
        assert curve[0][1] > entropy, name
        assert 1 < curve[-1][1] < entropy - 0.4, name


def test_all_runs_begin_with_the_same_loss_and_the_dense_ones_repeat_each_other(
    finished: Path,
) -> None:
    runs = losses(finished, "all")
    assert len({curve[0] for curve in losses(finished, "val").values()}) == 1
    baseline, repeat = (runs[name] for name in DENSE)
    assert len(baseline) == 4 + STEPS + 1  # validations, updates, the test loss
    assert baseline == repeat
    assert len({tuple(runs[name]) for name in RUNS}) == 3


def test_what_is_finished_is_skipped(finished: Path) -> None:
    logs = sorted((finished / "out/logs").iterdir())
    before = [path.stat().st_mtime_ns for path in logs]
    only = [word for run in RUNS for word in ("--only", run)]
    pyllmc(finished, "matrix", "run", "demo", "--out", "out", *only, *SET)
    assert [path.stat().st_mtime_ns for path in logs] == before


def test_the_report_shows_the_runs(finished: Path) -> None:
    done = pyllmc(finished, "report", "demo", "--out", "out", *SET)
    assert done.stdout == "out/README.md\n"
    text = (finished / "out/README.md").read_text()
    for name, curve in losses(finished, "val").items():
        assert f"{curve[-1][1]:.4f}" in text, name
    charts = {path.suffix for path in (finished / "out").rglob("*.*")}
    assert {".png", ".svg"} <= charts
    assert all(path.stat().st_size > 1000 for path in (finished / "out").rglob("*.png"))


def test_a_checkpoint_of_the_matrix_writes_text(finished: Path) -> None:
    from pyllmc.programs import generate_banded_path

    done = subprocess.run(
        [generate_banded_path(), "-e", "out/checkpoints/ckpt_both_bw256.bin", "-n", "30", "-s",
         "1", "-p", "Once upon a time"], cwd=finished, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tokenizer data/ministories/ministories_tokenizer.bin" in done.stderr
    assert done.stdout.startswith("Once upon a time")
    words = set(done.stdout.lower().replace(".", " ").replace(",", " ").split())
    assert words & {"the", "a", "and", "was", "to", "he", "she", "it"}
