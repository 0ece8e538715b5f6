"""Times and numbers that a display shows while a matrix runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyllmc.experiments.board import Board, Row
from pyllmc.experiments.metrics import Metrics


def append(path: Path, *records: dict[str, object], end: str = "\n") -> None:
    with path.open("a") as stream:
        stream.write("\n".join(json.dumps(record) for record in records) + end)


def train(step: int, seconds: float) -> dict[str, object]:
    return {"type": "train", "step": step, "loss": 3.5, "ms": 1000 * seconds}


def test_metrics_follow_a_growing_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    metrics = Metrics(path)
    assert not metrics.poll()
    append(path, {"type": "val", "step": 0, "loss": 6.9}, train(0, 0.1))
    assert metrics.poll()
    assert (metrics.val_step, metrics.val_loss, metrics.updates) == (0, 6.9, 1)
    append(path, train(1, 0.3), end="")
    metrics.poll()
    assert metrics.updates == 1  # the line is not whole yet
    append(path, end="\n")
    metrics.poll()
    assert metrics.updates == 2
    assert metrics.seconds_per_step == pytest.approx(0.2)


def test_metrics_start_again_with_a_log_that_did(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    metrics = Metrics(path)
    append(path, train(0, 1), train(1, 1), {"type": "end", "step": 2, "status": "interrupted"})
    metrics.poll()
    path.write_text("")
    append(path, train(0, 1))
    metrics.poll()
    assert (metrics.updates, metrics.end) == (1, None)


def test_metrics_pass_over_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'\xff\xfe\n[1]\n{"type": "val", "step": 5, "loss": NaN}\n')
    metrics = Metrics(path)
    metrics.poll()
    assert metrics.val_step == 5
    assert metrics.val_loss != metrics.val_loss


def board(tmp_path: Path, running: int) -> Board:
    """Cells of 100 steps at 2 s a step: one done before, some half-way, two waiting."""
    states = {"before": ("done", False), "next": ("queued", True), "last": ("queued", True)}
    states |= {f"now{number}": ("running", True) for number in range(running)}
    rows = {name: Row(name, state, 100, to_run, Metrics(tmp_path / f"{name}.jsonl"))
            for name, (state, to_run) in states.items()}  # fmt: skip
    for name, row in rows.items():
        if name.startswith("now"):
            append(tmp_path / f"{name}.jsonl", *[train(step, 2.0) for step in range(50)])
            row.metrics.poll()
    return Board(rows)


@pytest.mark.parametrize(("running", "seconds"), [(1, 500), (2, 300)])
def test_time_left_counts_what_waits(tmp_path: Path, running: int, seconds: float) -> None:
    assert board(tmp_path, running).left == seconds


def test_time_left_is_never_less_than_a_running_cells(tmp_path: Path) -> None:
    some = board(tmp_path, 2)
    some.rows["next"].state = some.rows["last"].state = "done"
    some.rows["now0"].steps = 300
    assert some.left == 500


def test_time_left_is_unknown_before_the_first_step(tmp_path: Path) -> None:
    row = Row("a", "queued", 100, True, Metrics(tmp_path / "a.jsonl"))
    assert Board({"a": row}).left is None
