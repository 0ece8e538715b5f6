"""Ctrl-C and SIGTERM: the step is finished and saved; a second Ctrl-C ends the run at once."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from apps.lab import Lab


@contextmanager
def started(lab: Lab, *words: object, until: str) -> Iterator[subprocess.Popen[str]]:
    """A run that has printed a line that begins with `until`."""
    with subprocess.Popen(
        lab.train_command(*words), cwd=lab.folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            assert child.stdout
            for line in child.stdout:
                if line.startswith(until):
                    break
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_finishes_the_step_and_saves(number: int, code: int, lab: Lab) -> None:
    words = ("-n", 1_000_000, "-v", 0, "-g", 0, "-o", "log.txt", "-c", "ckpt.bin")
    with started(lab, *words, until="step    3/") as child:
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (code, "")
    done = len(lab.events("train"))
    assert done >= 3
    assert lab.checkpoint()[0]["step"] == done
    assert lab.events()[-2:] == [
        {"type": "checkpoint", "step": done, "path": "ckpt.bin"},
        {"type": "end", "step": done, "status": "interrupted"},
    ]
    assert lab.log()[-1].startswith(f"s:{done - 1} trl:")
    assert out.endswith(
        f"interrupted after {done} of 1000000 updates; --resume goes on from here\n"
    )
    assert len(re.findall("^val loss", out, re.MULTILINE)) <= 1


def test_a_second_ctrl_c_ends_the_run_at_once(lab: Lab) -> None:
    # One update of many batches: it lasts longer than this test.
    words = ("-n", 1, "--accumulate", 1_000_000, "-g", 0, "-o", "log.txt", "-c", "ckpt.bin")
    with started(lab, *words, until="val loss") as child:
        time.sleep(0.2)  # now it is in the update
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=5)
    assert child.returncode == -signal.SIGINT
    assert not (lab.folder / "ckpt.bin").exists()
    assert [event["type"] for event in lab.events()] == ["settings", "val"]


def test_an_interrupted_run_without_checkpoint_saves_nothing(lab: Lab) -> None:
    with started(lab, "-n", 1_000_000, "-v", 0, "-g", 0, until="step    3/") as child:
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out.endswith(" updates; nothing was saved, as there is no --checkpoint\n")
    assert sorted(path.name for path in lab.folder.iterdir()) == ["data", "model.bin"]
