"""Runners that are stopped: by Ctrl-C, by a second one, by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import time

import pytest
from experiments.matrix_lab import CELLS, Lab, runner, running, wait_until

from pyllmc.experiments.state import process_start


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["INT", "TERM"]
)
def test_first_signal_lets_the_step_finish_and_the_next_run_goes_on(
    lab: Lab, number: signal.Signals, exit_code: int
) -> None:
    lab.plan(fc1_bw16="slow")
    with runner(lab) as process:
        wait_until(lambda: running(lab, "fc1_bw16"))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=15)
    assert process.returncode == exit_code
    assert "finishes its step and saves" in stderr
    assert lab.states() == {"dense": "done", "fc1_bw16": "preempted", "fc2_bw16": "queued"}
    assert lab.state("fc1_bw16")["exit_code"] == 75
    step = lab.state("fc1_bw16")["step"]
    assert "next:" not in stderr
    lab.plan()
    assert lab.run().exit_code == 0
    assert lab.states() == dict.fromkeys(CELLS, "done")
    assert lab.starts() == ["dense", "fc1_bw16", "fc1_bw16", "fc2_bw16"]
    assert lab.matrix("logs", "exp", "fc1_bw16").stdout == f"from step {step}\n"


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
    assert lab.state("dense")["state"] == "preempted"
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
