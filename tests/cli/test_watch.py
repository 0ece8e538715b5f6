"""`pyllmc watch`: one frame, and a live view that is left."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pyllmc.cli import main
from pyllmc.cli.watch_frame import History, Watch, sparkline
from pyllmc.experiments.matrix import load_matrix
from pyllmc.experiments.state import State, write_state

MATRIX = """
schema = 1
title = "Watched"
description = "For tests."
baseline = "r0"
[data]
train = "t_train.bin"
val = "t_val.bin"
[model]
channels = 8
layers = 1
heads = 2
context = 32
vocab = 64
[train]
steps = 100
batch_size = 2
sequence_length = 16
"""
CLI = "from pyllmc.cli import main; main(prog_name='pyllmc')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine runs: r0 done, r1 running (as recorded, by a process that is gone), r2 failed, r3
    diverged, the others not run."""
    runs = "".join(f'[[run]]\nname = "r{i}"\nlabel = "Run {i}"\n' for i in range(9))
    (tmp_path / "matrix.toml").write_text(MATRIX + runs)
    log(tmp_path, "r0", range(100), end="done")
    log(tmp_path, "r1", range(40))
    log(tmp_path, "r3", range(7))
    states = {
        "r0": State("done", 1, started="2026-01-01T00:00:00+00:00",
                    finished="2026-01-01T00:01:30+00:00"),
        "r1": State("running", 2),
        "r2": State("failed", 1, message="the disk is on fire"),
        "r3": State("diverged", 1, message="loss is nan"),
    }  # fmt: skip
    for name, state in states.items():
        (tmp_path / "cells" / name).mkdir(parents=True)
        write_state(tmp_path / "cells" / name, state)
    return tmp_path


def log(folder: Path, name: str, steps: range, end: str | None = None) -> None:
    path = folder / "logs" / f"log_{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as lines:
        for step in steps:
            loss = 5 - step / 50
            record = {"type": "train", "step": step, "loss": loss, "ms": 500.0,
                      "tokens_per_second": 1234.0}  # fmt: skip
            lines.write(json.dumps(record) + "\n")
        lines.write(json.dumps({"type": "val", "step": steps[-1], "loss": 3.5}) + "\n")
        if end is not None:
            lines.write(json.dumps({"type": "end", "step": steps[-1] + 1, "status": end}) + "\n")


def watch(*words: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, words)], prog_name="pyllmc")


def drawn(seen: Watch, width: int, height: int | None = None) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(seen.frame(width, height, footer="" if height is None else "q leaves"))
    return console.export_text().splitlines()


def test_once_shows_every_cell(folder: Path) -> None:
    result = watch(folder, "--once")
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert lines["r0"][1:3] == ["done", "100/100"]
    assert lines["r0"][-2:] == ["took", "1:30"]
    assert lines["r1"][1:3] == ["stale", "40/100"]
    assert lines["r2"][1] == "failed"
    assert lines["r8"][1:3] == ["not", "run"]
    assert "the disk is on fire" in result.stdout
    assert "1 failed, 1 stale, 1 diverged, 5 not run, 1 done" in result.stdout


def test_no_terminal_is_once(folder: Path) -> None:
    assert watch(folder).stdout == watch(folder, "--once").stdout


def test_folder_without_matrix_is_a_sentence(tmp_path: Path) -> None:
    result = watch(tmp_path)
    assert result.exit_code == 2
    assert "holds no matrix.toml" in result.stderr


def test_running_cell_tells_its_pace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "alive", True)
    seen = Watch(load_matrix(folder))
    seen.refresh()
    row = next(line for line in drawn(seen, 120) if line.startswith("r1"))
    assert row.split()[1:4] == ["running", "40/100", "4.2200"]
    assert row.split()[-2:] == ["1,234", "0:30"]  # 60 steps of half a second


def test_only_what_was_appended_is_read(folder: Path) -> None:
    seen = Watch(load_matrix(folder))
    seen.refresh()
    log(folder, "r1", range(40, 60))
    seen.refresh()
    row = seen.board.rows["r1"]
    assert row.metrics.updates == 60
    assert isinstance(row.metrics, History)
    assert len(row.metrics.losses) == 60


@pytest.mark.parametrize("width", [40, 62, 84, 120])
def test_no_line_is_wider_or_higher_than_the_window(folder: Path, width: int) -> None:
    seen = Watch(load_matrix(folder))
    seen.refresh()
    lines = drawn(seen, width, 12)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 12
    for name in ("r1", "r2", "r3"):  # what needs a look stays
        assert any(line.startswith(name) for line in lines)
    assert "… and " in "\n".join(lines)
    assert lines[-1].strip() == "q leaves"


def test_long_log_keeps_a_bounded_curve(tmp_path: Path) -> None:
    log(tmp_path, "x", range(20_000))
    history = History(tmp_path / "logs" / "log_x.jsonl")
    history.poll()
    assert 2000 < len(history.losses) <= 4096
    assert history.losses[0] == 5
    assert history.losses[-1] == pytest.approx(5 - 20_000 / 50, abs=0.5)


def test_sparkline_falls_as_the_loss_falls() -> None:
    assert sparkline([9, 8, 7, 6, 5, 4, 3, 2, 1], 9) == "█" + "█▇▆▅▄▃▂▁"
    assert sparkline([], 9) == ""
    assert sparkline([2.0, 2.0], 9) == "▁▁"
    assert sparkline([3.0, 2.0, math.nan], 9) == "█▁×"


class Terminal:
    """`pyllmc watch` in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.main, self.side = pty.openpty()
        termios.tcsetwinsize(self.side, (24, 100))
        self.before = termios.tcgetattr(self.side)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLI, "watch", str(folder)],
            stdin=self.side, stdout=self.side, stderr=self.side,
            env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True,
        )  # fmt: skip
        self.text = ""

    def read_until(self, wanted: str) -> None:
        end = time.monotonic() + 20
        while wanted not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.main], [], [], 0.2)[0]:
                self.text += os.read(self.main, 65536).decode("utf-8", "replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.main)
        os.close(self.side)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    opened = Terminal(folder)
    yield opened
    opened.close()


@pytest.mark.parametrize("how", ["q", "Ctrl-C", "SIGTERM"])
def test_live_view_follows_and_is_left(terminal: Terminal, folder: Path, how: str) -> None:
    terminal.read_until("40/100")
    log(folder, "r1", range(40, 60))
    terminal.read_until("60/100")
    assert termios.tcgetattr(terminal.side)[3] != terminal.before[3]  # keys come one by one
    if how == "q":
        os.write(terminal.main, b"q")
    else:
        number = signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM
        os.kill(terminal.process.pid, number)
    terminal.read_until("shows them again")
    assert terminal.process.wait(20) == 0
    assert "\x1b[?1049l" in terminal.text  # the terminal's own screen is back
    assert termios.tcgetattr(terminal.side) == terminal.before
