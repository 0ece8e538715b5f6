"""Cells that run elsewhere: the workers of a Dask cluster, and jobs of submitit's executors.

Slurm itself is tried by tests/cluster/slurm_localhost.sh.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments.matrix_lab import CELLS, Lab, runner, running, wait_until

from pyllmc.experiments.matrix import load_matrix
from pyllmc.experiments.runner import Options, Outcome, run_matrix
from pyllmc.experiments.slurm import SlurmEngine
from pyllmc.experiments.worker import worker_command


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def log(lab: Lab, cell: str) -> str:
    return (lab.folder / "logs" / f"log_{cell}.txt").read_text()


def test_worker_told_to_stop_again_and_again_lets_its_run_save(lab: Lab) -> None:
    """As the system tells it when a parent with several threads dies."""
    lab.run("--only", "dense")
    lab.plan(dense="slow")
    cell_dir = lab.folder / "cells" / "dense"
    (cell_dir / "state.json").unlink()
    (lab.folder / "logs" / "log_dense.jsonl").unlink()
    worker = subprocess.Popen(worker_command(cell_dir))
    wait_until(lambda: (cell_dir / "state.json").exists() and running(lab, "dense"))
    for _ in range(5):
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    assert worker.wait(timeout=15) == 75
    assert lab.state("dense")["state"] == "preempted"
    assert lab.state("dense")["exit_code"] == 75


# Dask


@contextlib.contextmanager
def two_workers() -> Iterator[str]:
    """Address of a cluster of two worker processes, which have this process's environment."""
    distributed = pytest.importorskip("distributed", reason="no distributed: pyllmc[cluster]")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
                                  dashboard_address=":0") as cluster:  # fmt: skip
        yield cluster.scheduler_address


def test_cell_of_a_killed_worker_goes_on_with_another(lab: Lab) -> None:
    lab.plan(dense="slow", fc1_bw16="fail")
    words = ["--engine", "dask", "--set", "steps=8"]
    with two_workers() as address, runner(lab, *words, "--scheduler", address) as process:
        wait_until(lambda: running(lab, "dense"), 30)
        wait_until(lambda: '"step": 2' in (lab.folder / "logs" / "log_dense.jsonl").read_text())
        before = lab.state("dense")["runner_pid"]
        os.kill(parent(before), signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert lab.states() == {"dense": "done", "fc1_bw16": "failed", "fc2_bw16": "done"}
    assert lab.state("dense")["attempt"] == 2
    assert lab.state("dense")["runner_pid"] != before
    assert int(lab.matrix("logs", "exp", "dense").stdout.split()[2]) >= 2
    lab.plan()
    assert lab.run("--set", "steps=8", "--only", "dense", "--out", "whole").exit_code == 0
    assert log(lab, "dense") == (lab.root / "whole" / "logs" / "log_dense.txt").read_text()


def test_first_interrupt_reaches_the_workers(lab: Lab) -> None:
    lab.plan(dense="slow", fc1_bw16="slow")
    words = ["--engine", "dask", "--set", "steps=100"]
    with two_workers() as address, runner(lab, *words, "--scheduler", address) as process:
        wait_until(lambda: running(lab, "dense") and running(lab, "fc1_bw16"), 30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert lab.states() == {"dense": "preempted", "fc1_bw16": "preempted", "fc2_bw16": "queued"}


def test_scheduler_that_does_not_answer_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="no distributed: pyllmc[cluster]")
    monkeypatch.setattr("pyllmc.experiments.dask_engine._CONNECT_SECONDS", 0.2)
    result = lab.run("--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.startswith("pyllmc: no Dask scheduler answers at tcp://127.0.0.1:9: ")


# submitit


def submitit_run(lab: Lab, **overrides: object) -> Outcome:
    submitit = pytest.importorskip("submitit", reason="no submitit: pyllmc[slurm]")
    folder = (lab.folder / "cells" / ".slurm" / "%j").absolute()
    executor = submitit.LocalExecutor(folder, max_num_timeout=3)
    executor.update_parameters(timeout_min=5)
    matrix = load_matrix(Path("exp"), overrides)
    options = Options(str(lab.program), engine="slurm")
    return run_matrix(matrix, list(matrix.cells()), options, SlurmEngine(executor))


def test_jobs_of_submitit_run_and_fail_as_their_files_say(lab: Lab) -> None:
    lab.plan(fc1_bw16="fail")
    assert submitit_run(lab).exit_code == 1
    assert lab.states() == {"dense": "done", "fc1_bw16": "failed", "fc2_bw16": "done"}
    assert lab.state("fc1_bw16")["message"] == "fake_train: the disk is on fire"


def test_preempted_job_is_queued_again_and_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preempts by submitit's signal, sent as Slurm sends it: to every process of the job."""
    lab.plan(dense="slow", fc1_bw16="slow", fc2_bw16="slow")
    sent: list[int] = []
    poll = SlurmEngine.poll

    def poll_and_preempt(engine: SlurmEngine) -> Any:
        if not sent and running(lab, "dense"):
            worker, program = lab.state("dense")["runner_pid"], lab.state("dense")["pid"]
            for pid in (worker, parent(worker)):
                os.kill(pid, signal.SIGUSR2)
                sent.append(pid)
            assert Path(f"/proc/{program}").exists()
        return poll(engine)

    monkeypatch.setattr(SlurmEngine, "poll", poll_and_preempt)
    assert submitit_run(lab, steps=12).exit_code == 0
    assert len(sent) == 2
    assert lab.states() == dict.fromkeys(CELLS, "done")
    assert lab.state("dense")["attempt"] == 2
    assert lab.state("fc1_bw16")["attempt"] == 1
    assert int(lab.matrix("logs", "exp", "dense").stdout.split()[2]) > 0
    assert log(lab, "dense") == log(lab, "fc1_bw16")


def test_dry_run_shows_the_batch_file(lab: Lab) -> None:
    pytest.importorskip("submitit", reason="no submitit: pyllmc[slurm]")
    words = ["partition=gpu", "time=90", "reservation=ours"]
    result = lab.run("--engine", "slurm", "--dry-run", "--gpus", "auto", "--threads-per-job", "4",
                     *[f"--slurm-option={word}" for word in words])  # fmt: skip
    assert result.exit_code == 0, result.output
    text = result.stdout.split("sbatch file of dense; the others differ in job-name:\n\n")[1]
    for line in ("job-name=dense", "partition=gpu", "time=90", "cpus-per-task=4",
                 "gpus-per-node=1", "reservation=ours", "signal=USR2@90"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text
    assert text.startswith("#!/bin/bash\n")
    assert f"{lab.folder}/cells/.slurm/%j" in text
    assert lab.starts() == []


def test_machine_without_slurm_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="no submitit: pyllmc[slurm]")
    monkeypatch.setenv("PATH", str(lab.root))
    result = lab.run("--engine", "slurm")
    assert result.exit_code == 2
    assert "found no srun on this machine" in result.stderr


@pytest.mark.parametrize(
    ("engine", "package", "extra"),
    [("slurm", "submitit", "slurm"), ("dask", "distributed", "cluster")],
)
def test_missing_extra_is_one_sentence(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, engine: str, package: str, extra: str
) -> None:
    really = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    words = ["--scheduler", "tcp://127.0.0.1:9"] if engine == "dask" else []
    result = lab.run("--engine", engine, *words)
    assert result.exit_code == 2
    assert result.stderr == (
        f"pyllmc: --engine {engine} needs the package {package}: pip install 'pyllmc[{extra}]'\n"
    )
