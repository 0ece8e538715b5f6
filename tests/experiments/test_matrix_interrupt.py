"""Runners that are stopped: by Ctrl-C, by a second one, by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from experiments.matrix_lab import CELLS, Lab

from pyllmc.experiments.state import process_start


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def runner(lab: Lab, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`pyllmc matrix run exp` as a process of its own, ended with the block."""
    code = "from pyllmc.cli import main; main(prog_name='pyllmc')"
    words = ["matrix", "run", "exp", "--program", str(lab.program)]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE,
                               stderr=stderr, text=True)  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def running(lab: Lab, cell: str) -> bool:
    log = lab.folder / "logs" / f"log_{cell}.jsonl"
    return log.exists() and '"train"' in log.read_text() and lab.state(cell)["state"] == "running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_first_signal_lets_the_step_finish_and_the_next_run_goes_on(
    lab: Lab, number: signal.Signals
) -> None:
    lab.plan(fc1_bw16="slow")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "fc1_bw16"))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "finishes its step and saves" in stderr
    assert lab.states() == {"dense": "done", "fc1_bw16": "interrupted", "fc2_bw16": "queued"}
    assert lab.state("fc1_bw16")["exit_code"] == 130
    assert "next:" not in stderr
    lab.plan()
    assert lab.run().exit_code == 0
    assert lab.states() == dict.fromkeys(CELLS, "done")
    assert lab.starts() == ["dense", "fc1_bw16", "fc1_bw16", "fc2_bw16"]


def test_second_signal_ends_what_does_not_stop(lab: Lab) -> None:
    lab.plan(dense="deaf")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "dense"))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=5)
    assert process.returncode == 130
    assert lab.state("dense")["state"] == "interrupted"
    assert lab.starts() == ["dense"]


def test_killed_runner_leaves_a_stale_cell_whose_child_has_stopped(lab: Lab) -> None:
    lab.plan(dense="slow")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "dense"))
        child = lab.state("dense")["pid"]
        process.kill()
        process.communicate()
    wait_until(lambda: process_start(child) is None)
    assert lab.state("dense")["state"] == "running"
    assert '"interrupted"' in (lab.folder / "logs" / "log_dense.jsonl").read_text()
    lab.plan()
    assert lab.run().exit_code == 0
    assert lab.states() == dict.fromkeys(CELLS, "done")
    assert lab.state("dense")["attempt"] == 2


def test_terminal_shows_a_table_that_is_redrawn(lab: Lab) -> None:
    lab.monkeypatch.setenv("COLUMNS", "100")
    lab.monkeypatch.setenv("TERM", "xterm")
    lab.plan(fc1_bw16="fail")
    leader, follower = pty.openpty()
    with runner(lab, stderr=follower) as process:
        os.close(follower)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's end is an error on Linux
            while chunk := os.read(leader, 65536):
                seen += chunk
        process.communicate(timeout=15)
    os.close(leader)
    assert process.returncode == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(r"cell +state +step +train loss +val loss +tokens/s +left", text)
    assert re.search(r"dense +done +6/6 +4\.5000 +4\.4000 +took 0:0\d", text)
    assert "2 of 3 done, 1 failed" in text
