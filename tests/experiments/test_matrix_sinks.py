"""`pyllmc matrix run --sink`: what a tracker gets while runs train, and what it cannot disturb."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from experiments.matrix_lab import CELLS, Lab, runner, running, wait_until

from pyllmc.errors import FormatError, UsageError
from pyllmc.experiments.matrix import load_matrix
from pyllmc.sinks import follow
from pyllmc.sinks.follow import Follower
from pyllmc.sinks.memory import memory_of
from pyllmc.sinks.sink import open_sink

STAND_IN = Path(__file__).with_name("stand_in")
SINK = ("--sink", "tensorboard")


@pytest.fixture
def tracked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab, with a stand-in for tensorboardX in every process."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    real = take_out("tensorboardX")
    yield lab
    take_out("tensorboardX")
    sys.modules.update(real)


def take_out(package: str) -> dict[str, ModuleType]:
    """Has the next import of a package find it anew."""
    names = [name for name in sys.modules if name.split(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def told(lab: Lab, kind: str = "scalar") -> list[list[Any]]:
    """(run, name, value, step) of everything of a kind that the tracker was told, in order."""
    path = lab.folder / "sinks" / "tensorboard" / "told"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[run, *rest] for run, what, *rest in lines if what == kind]


def logged(lab: Lab, cell: str) -> set[tuple[str, int, float]]:
    found = set()
    for line in (lab.folder / "logs" / f"log_{cell}.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["type"] in ("train", "val"):
            found.add((f"{record['type']}/loss", record["step"], record["loss"]))
    return found


def losses(lab: Lab, run: str) -> Counter[tuple[str, int, float]]:
    return Counter(
        (name, step, value)
        for of, name, value, step in told(lab)
        if of == run and name.endswith("/loss")
    )


def test_tracker_gets_every_value_once_and_the_states(tracked: Lab) -> None:
    tracked.plan(fc1_bw16="fail")
    done = tracked.run(*SINK, "--jobs", "2")
    assert done.exit_code == 1, done.output
    for cell in CELLS:
        assert losses(tracked, cell) == Counter(logged(tracked, cell))
    states = {run: text for run, name, text, _ in told(tracked, "text") if name == "status"}
    assert states == {"dense": "done", "fc1_bw16": "failed", "fc2_bw16": "done"}
    assert "--sink" not in done.stderr


def test_values_arrive_while_the_run_goes_on_and_a_resumed_one_doubles_none(tracked: Lab) -> None:
    tracked.plan(dense="slow")
    tracked.edit("steps = 6", "steps = 40")  # eight seconds
    out = tracked.folder / "sinks" / "tensorboard"
    with runner(tracked, "--only", "dense", *SINK) as process:
        wait_until(lambda: (out / "told").exists() and "scalar" in (out / "told").read_text())
        assert running(tracked, "dense")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    before = losses(tracked, "dense")
    assert tracked.state("dense")["state"] == "preempted"
    assert before == Counter(logged(tracked, "dense"))
    assert tracked.run("--only", "dense", *SINK).exit_code == 0
    assert len(losses(tracked, "dense")) > len(before)
    assert losses(tracked, "dense") == Counter(logged(tracked, "dense"))
    states = [text for _, name, text, _ in told(tracked, "text") if name == "status"]
    assert states == ["preempted", "done"]


def test_killed_runner_leaves_nothing_that_the_next_one_would_double(tracked: Lab) -> None:
    tracked.plan(dense="slow")
    tracked.edit("steps = 6", "steps = 40")  # eight seconds
    out = tracked.folder / "sinks" / "tensorboard"
    with runner(tracked, "--only", "dense", *SINK) as process:
        wait_until(lambda: (out / "told").exists() and "scalar" in (out / "told").read_text())
        process.kill()
        process.wait()
    # Its follower ends by itself, and then the folder is free.
    wait_until(lambda: is_free(out, tracked.folder))
    assert tracked.run("--only", "dense", *SINK).exit_code == 0
    assert losses(tracked, "dense") == Counter(logged(tracked, "dense"))


def test_log_that_vanishes_while_it_is_read_is_looked_at_again(
    tracked: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run is begun anew at that moment."""
    assert tracked.run("--only", "dense").exit_code == 0
    log = tracked.folder / "logs" / "log_dense.jsonl"
    whole = log.read_text()

    def vanish(*_: object) -> None:
        log.unlink()
        monkeypatch.undo()
        raise FormatError("there is no log_dense.jsonl")

    warnings: list[str] = []
    with memory_of(tracked.folder / "sinks" / "tensorboard", "tensorboard", tracked.folder) as kept:
        sink = open_sink("tensorboard", tracked.folder / "sinks" / "tensorboard")
        follower = Follower(load_matrix(tracked.folder), sink, kept, print, warnings.append)
        monkeypatch.setattr(follow, "load_run", vanish)
        follower.look()
        log.write_text(whole)
        follower.look()
    assert warnings == []
    assert losses(tracked, "dense") == Counter(logged(tracked, "dense"))


def is_free(out: Path, results: Path) -> bool:
    try:
        with memory_of(out, "tensorboard", results):
            return True
    except UsageError:
        return False


def test_run_begun_anew_is_another_one_of_the_tracker(tracked: Lab) -> None:
    assert tracked.run("--only", "dense", *SINK).exit_code == 0
    tracked.edit("batch_size = 2", "batch_size = 1")
    assert tracked.run("--only", "dense", *SINK, "--rerun-changed").exit_code == 0
    assert losses(tracked, "dense") == Counter(logged(tracked, "dense"))
    assert losses(tracked, "dense_attempt2") == Counter(logged(tracked, "dense"))


def test_run_that_the_tracker_refuses_is_told_once_and_stops_nothing(tracked: Lab) -> None:
    tracked.monkeypatch.setenv("STAND_IN", json.dumps({"dense": "raise"}))
    done = tracked.run(*SINK)
    assert done.exit_code == 0
    assert set(tracked.states().values()) == {"done"}
    (line,) = [line for line in done.stderr.splitlines() if "--sink" in line]
    assert "--sink tensorboard: dense is left out from here on" in line
    assert "RuntimeError: no room for train/loss" in line
    assert losses(tracked, "fc2_bw16") == Counter(logged(tracked, "fc2_bw16"))


def test_tracker_that_dies_is_told_once_and_stops_nothing(tracked: Lab) -> None:
    tracked.monkeypatch.setenv("STAND_IN", json.dumps({"dense": "exit"}))
    done = tracked.run(*SINK)
    assert done.exit_code == 0
    assert set(tracked.states().values()) == {"done"}
    (line,) = [line for line in done.stderr.splitlines() if "--sink" in line]
    assert "--sink tensorboard gets nothing more" in line
    assert "it ended with 9" in line


def test_tracker_that_hangs_is_waited_for_until_ctrl_c(tracked: Lab) -> None:
    tracked.monkeypatch.setenv("STAND_IN", json.dumps({"fc2_bw16": "hang"}))
    with runner(tracked, *SINK) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting until tensorboard got the last points" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(10) == 0  # every run is done
    assert "--sink tensorboard gets nothing more" in rest
    assert set(tracked.states().values()) == {"done"}


def test_folder_of_something_else_is_told_and_stops_nothing(tracked: Lab) -> None:
    (tracked.root / "mine" / "tensorboard").mkdir(parents=True)
    (tracked.root / "mine" / "tensorboard" / "kept").touch()
    done = tracked.run(*SINK, "--sink-out", "mine")
    assert done.exit_code == 0
    (line,) = [line for line in done.stderr.splitlines() if "--sink" in line]
    assert "mine/tensorboard is not empty" in line


def test_missing_package_is_refused_before_anything_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = lab.run(*SINK)
    assert done.exit_code == 2
    assert "--sink tensorboard needs tensorboardX, which is not installed: pip install" in (
        done.stderr
    )
    assert lab.starts() == []
    assert not (lab.folder / "cells").exists()


def test_folder_without_a_sink_is_refused(lab: Lab) -> None:
    done = lab.run("--sink-out", "mine")
    assert done.exit_code == 2
    assert "give --sink too" in done.stderr
    assert lab.starts() == []


def test_one_folder_has_one_writer_and_one_experiment(tmp_path: Path) -> None:
    with (
        memory_of(tmp_path / "tb", "tensorboard", tmp_path / "a"),
        pytest.raises(UsageError, match=r"another process writes to .*tb already"),
        memory_of(tmp_path / "tb", "tensorboard", tmp_path / "a"),
    ):
        pass
    for to, results in (("mlflow", "a"), ("tensorboard", "b")):
        with (
            pytest.raises(UsageError, match=r"holds runs for tensorboard of .*/a, not for"),
            memory_of(tmp_path / "tb", to, tmp_path / results),
        ):
            pass
