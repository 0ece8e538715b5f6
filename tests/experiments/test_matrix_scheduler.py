"""Who may run a cell, on what, and who may stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from experiments.matrix_lab import CELLS, Lab, runner, running, wait_until

from pyllmc.experiments import attempt as attempt_module
from pyllmc.experiments.attempt import Attempt
from pyllmc.experiments.gpus import Gpu, Slot
from pyllmc.experiments.job import read_job
from pyllmc.experiments.lock import MachineUse
from pyllmc.experiments.state import process_start, runner_process

SMI = "0, GPU-aaaa, NVIDIA H200\n1, GPU-bbbb, NVIDIA H200\n2, GPU-cccc, NVIDIA H200\n"


def config(lab: Lab, cell: str) -> dict[str, object]:
    return json.loads((lab.folder / "cells" / cell / "config.json").read_text())


def stdout(lab: Lab, cell: str) -> str:
    return lab.matrix("logs", "exp", cell).stdout


def overwrite(lab: Lab, cell: str, **fields: object) -> None:
    path = lab.folder / "cells" / cell / "state.json"
    path.write_text(json.dumps(lab.state(cell) | fields))


# Whose a cell is


def test_two_runners_share_the_cells_and_run_each_once(lab: Lab) -> None:
    lab.plan(dense="slow")
    with runner(lab) as first, runner(lab) as second:
        first.communicate(timeout=30)
        second.communicate(timeout=30)
    assert sorted(lab.starts()) == sorted(CELLS)
    assert lab.states() == dict.fromkeys(CELLS, "done")
    assert {first.returncode, second.returncode} <= {0, 75}
    assert lab.run().exit_code == 0


def test_program_of_a_killed_runner_ends_before_the_next_attempt_begins(lab: Lab) -> None:
    lab.plan(dense="slow")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "dense"))
        process.kill()
    lab.plan()
    assert lab.run("--only", "dense").exit_code == 0
    ends = (lab.root / "ends").read_text().splitlines()
    starts = (lab.root / "starts").read_text().splitlines()
    assert float(ends[0].split()[1]) < float(starts[1].split()[1])
    assert stdout(lab, "dense").split()[:2] == ["from", "step"]
    assert int(stdout(lab, "dense").split()[2]) > 0
    log = (lab.folder / "logs" / "log_dense.txt").read_text()
    assert log == "s:0 tel:5.0000\ns:3 tel:4.7000\ns:6 tel:4.4000\n"


def test_runner_that_was_replaced_ends_its_program_and_writes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "HEARTBEAT_SECONDS", 0.0)
    lab.plan(dense="deaf")
    with runner(lab, "--only", "dense") as process:
        wait_until(lambda: running(lab, "dense"))
        process.kill()
        process.communicate()
    lost = Attempt(read_job(lab.folder / "cells" / "dense"), Slot())
    monkeypatch.setattr(attempt_module, "_LEFT_OVER_SECONDS", 0.0)
    lost.start()
    wait_until(lambda: lost.poll() or lost.state.pid is not None)
    pid = lost.state.pid
    assert pid is not None
    overwrite(lab, "dense", host="elsewhere", attempt=7)
    wait_until(lost.poll)
    assert process_start(pid) is None
    assert lost.state.state == "busy"
    assert lab.state("dense")["attempt"] == 7


def test_silent_run_of_another_machine_is_taken_over(lab: Lab) -> None:
    lab.run()
    overwrite(lab, "dense", state="running", host="elsewhere", updated="2001-01-01T00:00:00+00:00")
    assert lab.run().exit_code == 0
    assert lab.state("dense")["attempt"] == 2
    overwrite(lab, "dense", state="running", host="elsewhere")  # its heartbeat is seconds old
    result = lab.run()
    assert result.exit_code == 75
    assert "on elsewhere" in result.stderr
    assert lab.state("dense")["attempt"] == 2


def test_same_configuration_twice_is_one_run(lab: Lab) -> None:
    lab.edit("fc2_bandwidth = 16", "fc1_bandwidth = 16")
    result = lab.run()
    assert result.exit_code == 0
    assert lab.starts() == ["dense", "fc1_bw16"]
    assert "fc2_bw16 skipped: the same configuration as fc1_bw16" in result.stderr


def test_unfinished_run_of_another_configuration_is_refused(lab: Lab) -> None:
    lab.run("--only", "dense")
    overwrite(lab, "dense", state="preempted", step=3)
    result = lab.run("--set", "batch_size=1")
    assert result.exit_code == 2
    assert "settings batch_size: 2 -> 1" in result.stderr
    assert lab.run("--set", "batch_size=1", "--rerun-changed").exit_code == 0
    assert "--resume" not in config(lab, "dense")["command"]


def test_run_begun_by_another_build_starts_anew_when_asked(lab: Lab) -> None:
    lab.plan(dense="fail")
    lab.run("--only", "dense")
    lab.plan()
    assert "run " not in lab.run("--dry-run", "--only", "dense", "--rerun-changed").stdout
    lab.program.write_text(lab.program.read_text() + "\n")
    assert lab.run("--only", "dense").exit_code == 1
    assert lab.run("--only", "dense", "--rerun-changed").exit_code == 0
    assert "--resume" not in config(lab, "dense")["command"]


def test_rerun_stopped_before_it_began_still_builds_on_nothing(lab: Lab) -> None:
    lab.run()
    lab.plan(dense="slow")
    (lab.folder / "logs" / "log_dense.txt").unlink()
    overwrite(lab, "fc1_bw16", state="queued", anew=True)
    assert "attempt 2 from the start" in lab.run("--dry-run").stdout
    lab.run()
    assert "--resume" not in config(lab, "fc1_bw16")["command"]


# Stopping


def test_cancel_stops_what_runs_and_what_waits(lab: Lab) -> None:
    lab.plan(dense="slow", fc1_bw16="slow")
    with runner(lab, "--set", "steps=40") as process:
        wait_until(lambda: running(lab, "dense"))
        result = lab.matrix("cancel", "exp", "dense", "fc2_bw16")
        assert result.stderr == "dense: asked to stop\nfc2_bw16: asked to stop\n"
        wait_until(lambda: running(lab, "fc1_bw16"))
        assert lab.matrix("cancel", "exp", "--now").exit_code == 0
        _, stderr = process.communicate(timeout=15)
    assert process.returncode == 75
    assert lab.states() == dict.fromkeys(CELLS, "preempted")
    assert lab.state("fc1_bw16")["exit_code"] == -signal.SIGKILL
    assert lab.state("fc2_bw16")["message"] == "cancelled before it started"
    assert "the same command goes on" in stderr
    lab.plan()
    assert lab.run("--set", "steps=40").exit_code == 0
    assert lab.states() == dict.fromkeys(CELLS, "done")


def test_cancel_of_what_does_not_run_says_so(lab: Lab) -> None:
    assert lab.matrix("cancel", "exp", "dense").stderr == "dense: never run\n"
    result = lab.matrix("cancel", "exp", "dens")
    assert result.exit_code == 2
    assert "no cell 'dens'; the cells are dense," in result.stderr


def test_program_stopped_by_another_hand_is_preempted(lab: Lab) -> None:
    lab.plan(dense="slow")
    with runner(lab, "--only", "dense") as process:
        wait_until(lambda: running(lab, "dense"))
        os.kill(lab.state("dense")["pid"], signal.SIGTERM)
        process.communicate(timeout=15)
    assert process.returncode == 75
    assert lab.state("dense")["state"] == "preempted"


def test_logs_follow_a_run_to_its_end(lab: Lab) -> None:
    assert lab.matrix("logs", "exp", "dense").exit_code == 4
    assert "name one of dense, fc1_bw16, fc2_bw16" in lab.matrix("logs", "exp").stderr
    lab.plan(dense="slow", fc1_bw16="fail")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "dense"))
        code = "from pyllmc.cli import main; main(['matrix', 'logs', 'exp', 'dense', '--follow'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        process.communicate(timeout=15)
    assert done.stdout == "from step 0\n"
    assert lab.state("dense")["state"] == "done"
    assert lab.matrix("logs", "exp", "fc1_bw16").stderr == "fake_train: the disk is on fire\n"


# Devices


@pytest.fixture
def three_gpus(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi that lists three."""
    smi = lab.root / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\nprintf '{SMI}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return smi


def test_each_cell_gets_a_gpu_of_its_own(lab: Lab, three_gpus: Path) -> None:
    lab.plan(dense="slow", fc1_bw16="slow")
    assert lab.run("--gpus", "0,2").exit_code == 0
    assert stdout(lab, "dense") == "from step 0 GPU-aaaa\n"
    assert stdout(lab, "fc1_bw16") == "from step 0 GPU-cccc\n"
    assert config(lab, "dense")["device"]["gpu"] == {"name": "NVIDIA H200", "uuid": "GPU-aaaa"}
    assert config(lab, "dense")["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    (first_start, first_end), (second_start, second_end) = lab.times("dense"), lab.times("fc1_bw16")
    assert max(first_start, second_start) < min(first_end, second_end)


def test_a_cell_with_a_gpu_is_told_to_use_it(lab: Lab, three_gpus: Path) -> None:
    def commands(*words: str) -> list[str]:
        lines = lab.run("--dry-run", *words).stdout.splitlines()
        return [line for line in lines if " -e " in line]

    assert all(line.endswith("--device cuda") for line in commands("--gpus", "auto"))
    assert not any("--device" in line for line in commands())
    before = lab.run("--dry-run", "--gpus", "auto").stdout
    lab.edit("[train]", '[train]\ndevice = "cpu"')
    chosen = commands("--gpus", "auto")
    assert all("--device cpu" in line and "--device cuda" not in line for line in chosen)
    assert "changed" not in before


def test_the_device_is_no_part_of_what_a_cell_is(lab: Lab) -> None:
    assert lab.run().exit_code == 0
    lab.edit("[train]", '[train]\ndevice = "cpu"')
    assert lab.run().exit_code == 0
    assert lab.starts() == CELLS


def test_gpus_taken_by_another_matrix_are_waited_for(lab: Lab, three_gpus: Path) -> None:
    taken = Slot(Gpu(1, "GPU-bbbb", "NVIDIA H200"), 0)
    assert taken.acquire()
    assert not Slot(taken.gpu, 0).acquire()
    with runner(lab, "--gpus", "1,2") as process:
        process.communicate(timeout=15)
    assert {stdout(lab, cell) for cell in CELLS} == {"from step 0 GPU-cccc\n"}
    with runner(
        lab, "--gpus", "1", "--only", "dense", "--set", "steps=7", "--rerun-changed"
    ) as one:
        wait_until(lambda: lab.state("dense")["state"] == "queued")
        taken.release()
        one.communicate(timeout=15)
    assert stdout(lab, "dense") == "from step 0 GPU-bbbb\n"


def test_hidden_gpus_are_left_alone(
    lab: Lab, three_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert lab.run("--gpus", "auto", "--only", "dense").exit_code == 0
    assert stdout(lab, "dense") == "from step 0 GPU-bbbb\n"


@pytest.mark.parametrize(
    ("choice", "exit_code", "sentence"),
    [
        ("5", 5, "--gpus asks for GPU 5, which is not there: the GPUs are 0, 1, 2"),
        ("0,0", 2, "--gpus is '0,0'; it must be auto or numbers like 0,2, each once"),
        ("all", 2, "--gpus is 'all'; it must be auto or numbers"),
    ],
)
def test_gpus_that_cannot_be_had(
    lab: Lab, three_gpus: Path, choice: str, exit_code: int, sentence: str
) -> None:
    result = lab.run("--gpus", choice)
    assert result.exit_code == exit_code
    assert sentence in result.stderr
    assert lab.starts() == []


def test_machine_without_gpu_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(lab.root))
    for words in ([], ["--dry-run"]):
        result = lab.run("--gpus", "auto", *words)
        assert result.exit_code == 5
        assert result.stderr == (
            "pyllmc: --gpus auto found no NVIDIA GPU (nvidia-smi lists none); "
            "leave --gpus out to run on the processors\n"
        )


def test_a_run_knows_whether_it_had_the_machine_to_itself(lab: Lab) -> None:
    lab.run("--only", "dense")
    assert lab.state("dense")["alone"] is True
    other = MachineUse()
    lab.run("--only", "fc1_bw16")
    other.close()
    assert lab.state("fc1_bw16")["alone"] is False
    lab.run("--jobs", "2")
    assert lab.state("fc2_bw16")["alone"] is False


def test_a_run_that_loses_the_machine_to_another_notices(lab: Lab) -> None:
    lab.plan(dense="slow")
    with runner(lab, "--only", "dense", "--set", "steps=12") as process:
        wait_until(lambda: running(lab, "dense"))
        assert lab.state("dense")["alone"] is True
        other = MachineUse()
        process.communicate(timeout=15)
        other.close()
    assert lab.state("dense")["alone"] is False


def test_help_documents_the_exit_codes(lab: Lab) -> None:
    listed = lab.matrix("run", "--help").stdout.split("Exit codes:")[1].split("Options:")[0]
    codes = [words[0] for line in listed.splitlines() if (words := line.split())]
    codes = [word for word in codes if word.isdecimal()]
    assert codes == ["0", "1", "2", "4", "5", "75", "130"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "dask"], "--engine dask and --scheduler ADDRESS belong together"),
        (["--scheduler", "tcp://x:1"], "--engine dask and --scheduler ADDRESS belong together"),
        (["--slurm-option", "time=5"], "--slurm-option needs --engine slurm"),
        (["--engine", "slurm", "--slurm-option", "time"], "'time' is not KEY=VALUE"),
        (["--engine", "slurm", "--jobs", "2"], "--jobs is for --engine local"),
    ],
)
def test_options_that_do_not_fit_together(lab: Lab, words: list[str], sentence: str) -> None:
    result = lab.run(*words)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_claim_names_the_runner(lab: Lab) -> None:
    lab.run("--only", "dense")
    assert {**lab.state("dense"), **runner_process()} == lab.state("dense")
