"""Runners and workers killed in mid-run, with the real trainer: what comes out is what comes out
of a matrix that nobody disturbed, to the last bit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiments.matrix_lab import wait_until

SETTINGS = {
    "model.channels": "64", "model.layers": "2", "model.heads": "2", "model.context": "32",
    "steps": "200", "batch_size": "2", "sequence_length": "32", "val_every": "100",
    "val_batches": "2", "sample_every": "0", "sample_length": "0", "checkpoint_every": "20",
    "seeds": "[1,2,3]",
}  # fmt: skip
RUNS = ("--only=baseline", "--only=both_bw256")
WALL_CLOCK = re.compile(r"tokens/s|\bm?s\b|seconds|\btime\b|speed|wall", re.IGNORECASE)


class Demo:
    """runs/demo at a tiny scale, in a folder of its own."""

    def __init__(self, root: Path, folder: Path, program: Path) -> None:
        self.root, self.folder = root, folder
        self.program = root / "train_banded"  # a copy, as a resumed run insists on its build
        shutil.copy(program, self.program)
        self("data", "prepare", "ministories", "--stories", "400", "--out-dir", "data/ministories")

    def command(self, *words: str) -> list[str]:
        code = "from pyllmc.cli import main; main(prog_name='pyllmc')"
        return [sys.executable, "-c", code, *words]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(self.command(*words), cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def words(self, out: str, *more: str) -> list[str]:
        settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
        return [str(self.folder), "--out", out, *settings, *more]

    def run_words(self, out: str, *more: str) -> list[str]:
        return ["matrix", "run", *self.words(out, "--program", str(self.program), *more)]

    @contextlib.contextmanager
    def runner(self, out: str, *more: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(self.command(*self.run_words(out, *more)), cwd=self.root,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def state(self, out: str, cell: str) -> dict[str, Any]:
        path = self.root / out / "cells" / cell / "state.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "-"}

    def trained(self, out: str, cell: str) -> int:
        """Steps that a running cell has logged, 0 for one that does not run."""
        log = self.root / out / "logs" / f"log_{cell}.jsonl"
        if self.state(out, cell)["state"] != "running" or not log.exists():
            return 0
        return log.read_text().count('"train"')

    def results(self, out: str) -> dict[str, bytes]:
        """Logs and trained weights."""
        paths = [*(self.root / out / "logs").glob("*.txt"),
                 *(self.root / out / "checkpoints").glob("*.bin")]  # fmt: skip
        return {path.name: path.read_bytes() for path in paths}

    def tables(self, out: str) -> list[list[str]]:
        """The report's tables without their wall-clock columns."""
        self("report", *self.words(out))
        tables, table = [], []
        for line in [*(self.root / out / "README.md").read_text().splitlines(), ""]:
            if line.startswith("|"):
                table.append([cell.strip() for cell in line.strip("|").split("|")])
            elif table:
                kept = [n for n, name in enumerate(table[0]) if not WALL_CLOCK.search(name)]
                tables.append([" | ".join(row[n] for n in kept) for row in table])
                table = []
        return tables


@pytest.fixture(scope="module")
def demo(
    repo_root: Path, programs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("demo"), repo_root / "runs/demo", programs.train_banded)
    demo(*demo.run_words("whole", *RUNS))
    return demo


def test_matrix_whose_runner_was_killed_twice_reports_the_same(demo: Demo) -> None:
    with demo.runner("killed", *RUNS) as process:
        wait_until(lambda: demo.trained("killed", "baseline_s1") > 30)
        process.kill()
        # The program would save when its runner is gone: let it not.
        os.kill(demo.state("killed", "baseline_s1")["pid"], signal.SIGKILL)
    assert demo.state("killed", "baseline_s1")["state"] == "running"
    with demo.runner("killed", *RUNS) as process:
        wait_until(lambda: demo.trained("killed", "both_bw256_s2") > 5)
        process.kill()
    demo(*demo.run_words("killed", *RUNS))
    for cell in ("baseline_s1", "both_bw256_s2"):
        assert demo.state("killed", cell)["attempt"] == 2
        record = demo.root / "killed" / "cells" / cell / "attempts" / "2" / "config.json"
        assert json.loads(record.read_text())["command"][-1] == "--resume"
    assert len(demo.results("whole")) == 12
    assert demo.results("killed") == demo.results("whole")
    tables = demo.tables("whole")
    assert len(tables) > 3
    assert demo.tables("killed") == tables


def test_run_of_a_killed_dask_worker_goes_on_elsewhere_to_the_same_bits(demo: Demo) -> None:
    distributed = pytest.importorskip("distributed", reason="no distributed: pyllmc[cluster]")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                 memory_limit=0, dashboard_address=":0") as cluster,
        demo.runner("dask", "--engine", "dask", "--scheduler", cluster.scheduler_address,
                    "--threads-per-job=1", "--only=baseline_s1") as process,
    ):  # fmt: skip
        wait_until(lambda: demo.trained("dask", "baseline_s1") > 30, 30)
        state = demo.state("dask", "baseline_s1")
        stat = Path(f"/proc/{state['runner_pid']}/stat").read_text()
        dask_worker = int(stat.rpartition(")")[2].split()[1])
        for pid in (dask_worker, state["runner_pid"], state["pid"]):  # as when a machine is lost
            os.kill(pid, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert demo.state("dask", "baseline_s1")["attempt"] == 2
    assert demo.results("dask").items() < demo.results("whole").items()
    assert len(demo.results("dask")) == 2
