"""`pyllmc export runs`: what each tracker's own files hold afterwards."""

from __future__ import annotations

import importlib
import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyllmc.experiments.matrix import load_matrix
from pyllmc.experiments.state import State, write_state
from pyllmc.sinks.runs import RunLog, load_run

MATRIX = """
schema = 1
title = "Exported"
description = "For tests."
baseline = "dense"
seeds = [1, 2]
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
steps = 3
batch_size = 2
sequence_length = 16
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "boom"
label = "Boom"
learning_rate = 9.0
"""
NAMES = ["dense_s1", "boom_s1", "dense_s2"]
STARTED, FINISHED = "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:30+00:00"
CLI = "from pyllmc.cli import main; main(prog_name='pyllmc')"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """dense_s1 and dense_s2 done, boom_s1 diverged (its last loss is nan), boom_s2 never run."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "matrix.toml").write_text(MATRIX)
    matrix = load_matrix(folder)
    (folder / "logs").mkdir()
    for cell in matrix.cells():
        if cell.name not in NAMES:
            continue
        boom = cell.run.name == "boom"
        records: list[dict[str, Any]] = [{"type": "val", "step": 0, "loss": 5.0, "tokens": 64}]
        for step in range(3):
            loss = math.nan if boom and step == 2 else 4.0 - step - 0.1 * (cell.seed or 0)
            records.append({"type": "train", "step": step, "loss": loss, "lr": 0.5, "ms": 10.0,
                            "tokens_per_second": 3200.0})  # fmt: skip
        if not boom:
            records.append({"type": "val", "step": 3, "loss": 1.25, "tokens": 64})
        log = matrix.log_path(cell.run, cell.seed).with_suffix(".jsonl")
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        record_dir = matrix.cell_dir(cell.run, cell.seed)
        record_dir.mkdir(parents=True)
        configuration = {"settings": {"steps": 3, "min_lr": None}, "data": {"train": "abc"}}
        (record_dir / "config.json").write_text(
            json.dumps({"configuration": configuration, "git": {"commit": "c0ffee"}})
        )
        state = State("diverged" if boom else "done", 1, started=STARTED, finished=FINISHED)
        write_state(record_dir, state)
    return folder


def export(experiment: Path, to: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own: trackers keep state in theirs."""
    words = ["export", "runs", str(experiment), "--to", to, "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-c", CLI, *words],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "HOME": str(out.parent), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def needs(extra: str, *modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'pyllmc[{extra}]'")


def exported(experiment: Path, to: str, out: Path) -> str:
    """Exports, expects success, and returns what was told on stderr."""
    done = export(experiment, to, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    return done.stderr


def load_runs(experiment: Path) -> list[RunLog]:
    matrix = load_matrix(experiment)
    found = [load_run(matrix, cell, {}, None) for cell in matrix.cells()]
    return [run for run in found if run is not None]


def test_runs_hold_losses_speed_and_configuration(experiment: Path) -> None:
    runs = load_runs(experiment)
    assert [run.name for run in runs] == NAMES
    assert [run.status for run in runs] == ["done", "diverged", "done"]
    first = runs[0]
    assert first.points[0] == (
        0,
        {"train/loss": 3.9, "val/loss": 5.0, "train/lr": 0.5, "train/tokens_per_second": 3200.0},
    )
    assert first.points[3] == (3, {"val/loss": 1.25})
    assert math.isnan(runs[1].points[2][1]["train/loss"])
    assert first.config == {
        "run": "dense", "label": "Dense", "seed": 1, "settings.steps": 3, "data.train": "abc",
        "commit": "c0ffee",
    }  # fmt: skip
    assert first.finished - first.started == 30


def test_without_record_the_logs_and_settings_are_enough(experiment: Path) -> None:
    for path in (experiment / "cells").rglob("*.json"):
        path.unlink()
    run = load_runs(experiment)[0]
    assert run.status == "unrecorded"
    assert run.config["settings.steps"] == 3
    assert run.finished >= run.started > 0


def events(path: Path) -> list[Any]:
    """The events of a file: length, checksum, message, checksum, and again."""
    event_pb2 = importlib.import_module("tensorboardX.proto.event_pb2")
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
        at += 16 + length
    return found


def test_tensorboard_files_hold_every_value(experiment: Path, tmp_path: Path) -> None:
    needs("tensorboard", "tensorboardX")
    out = tmp_path / "tb"
    assert "tensorboard --logdir" in exported(experiment, "tensorboard", out)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(NAMES)
    scalars = {
        (value.tag, event.step): (value.simple_value, event.wall_time)
        for event in events(next((out / "dense_s2").iterdir()))
        for value in event.summary.value
        if value.HasField("simple_value")
    }
    assert scalars["train/loss", 2][0] == pytest.approx(1.8)
    assert scalars["val/loss", 3][0] == 1.25
    assert scalars["val/loss", 3][1] - scalars["val/loss", 0][1] == pytest.approx(30)
    assert [scalars["train/loss", step][1] - scalars["val/loss", 0][1] for step in (1, 2)] == [
        pytest.approx(10), pytest.approx(20)
    ]  # fmt: skip
    assert len(scalars) == 2 + 3 * 3
    last = [e for e in events(next((out / "boom_s1").iterdir())) if e.step == 2]
    losses = [v.simple_value for e in last for v in e.summary.value if v.tag == "train/loss"]
    assert all(map(math.isnan, losses))
    assert len(losses) == 1


def test_tensorboard_itself_reads_them(experiment: Path, tmp_path: Path) -> None:
    needs("tensorboard", "tensorboardX")
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is missing: pip install tensorboard",
    )
    exported(experiment, "tensorboard", tmp_path / "tb")
    reader = accumulator.EventAccumulator(str(tmp_path / "tb" / "dense_s1"))
    reader.Reload()
    assert set(reader.Tags()["scalars"]) == {
        "train/loss", "train/lr", "train/tokens_per_second", "val/loss"
    }  # fmt: skip
    assert [(e.step, e.value) for e in reader.Scalars("val/loss")] == [(0, 5.0), (3, 1.25)]
    (text,) = reader.Tensors("configuration/text_summary")
    assert b"c0ffee" in text.tensor_proto.string_val[0]


def test_mlflow_store_holds_every_value(experiment: Path, tmp_path: Path) -> None:
    needs("mlflow", "mlflow", "sqlalchemy", "alembic")
    out = tmp_path / "ml"
    exported(experiment, "mlflow", out)
    with sqlite3.connect(out / "mlflow.db") as store:
        runs = dict(store.execute("select name, run_uuid from runs"))
        states = dict(store.execute("select name, status from runs"))
        assert states == {"dense_s1": "FINISHED", "boom_s1": "FAILED", "dense_s2": "FINISHED"}
        metrics = {
            (key, step): (value, stamp)
            for key, step, value, stamp in store.execute(
                "select key, step, value, timestamp from metrics where run_uuid = ?",
                (runs["dense_s2"],),
            )
        }
        assert metrics["train/loss", 2][0] == pytest.approx(1.8)
        assert metrics["val/loss", 3][1] - metrics["val/loss", 0][1] == 30_000
        assert len(metrics) == 2 + 3 * 3
        nan = "select count(*) from metrics where run_uuid = ? and is_nan"
        assert store.execute(nan, (runs["boom_s1"],)).fetchone() == (1,)
        params = dict(
            store.execute("select key, value from params where run_uuid = ?", (runs["boom_s1"],))
        )
        assert params["label"] == "Boom"
        assert params["settings.steps"] == "3"


def test_trackio_store_holds_every_value(experiment: Path, tmp_path: Path) -> None:
    needs("trackio", "trackio")
    out = tmp_path / "tk"
    exported(experiment, "trackio", out)
    with sqlite3.connect(out / "exported.db") as store:
        rows = store.execute(
            "select step, metrics from metrics where run_name = 'dense_s2' order by step"
        )
        values: dict[int, dict[str, Any]] = {}
        for step, text in rows:
            values.setdefault(step, {}).update(json.loads(text))
        assert set(values) == {0, 1, 2, 3}
        assert values[2]["train/loss"] == pytest.approx(1.8)
        assert values[3] == {"val/loss": 1.25, "status": "done"}
        configs = dict(store.execute("select run_name, config from configs"))
        assert set(configs) == set(NAMES)
        assert json.loads(configs["boom_s1"])["status"] == "diverged"


def test_wandb_offline_files_hold_every_value(experiment: Path, tmp_path: Path) -> None:
    needs("wandb", "wandb")
    out = tmp_path / "wb"
    exported(experiment, "wandb", out)
    files = sorted(out.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 3
    found = {}
    for file in files:
        records = wandb_records(file)
        run = next(r.run for r in records if r.HasField("run"))
        history = [
            {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
            for r in records
            if r.HasField("history")
        ]
        told = [run.config, *(r.config for r in records if r.HasField("config"))]
        config = {
            c.key or c.nested_key[0]: json.loads(c.value_json) for t in told for c in t.update
        }
        found[run.display_name] = (run.project, config, history)
    assert set(found) == set(NAMES)
    project, config, history = found["dense_s2"]
    assert (project, config["settings.steps"], config["status"]) == ("exported", 3, "done")
    assert [row["_step"] for row in history] == [0, 1, 2, 3]
    assert history[2]["train/loss"] == pytest.approx(1.8)
    assert history[3]["val/loss"] == 1.25


def wandb_records(path: Path) -> list[Any]:
    """The records of an offline file: a log of blocks of 32 KiB, as LevelDB's (7 bytes of header,
    then chunks of checksum, length and kind)."""
    pb2 = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # complete, or the last part
            found.append(pb2.Record.FromString(whole))
            whole = b""
    return found


def tensorboard_values(out: Path) -> list[tuple[str, int]]:
    return [
        (value.tag, event.step)
        for path in (out / "dense_s2").iterdir()
        for event in events(path)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def mlflow_values(out: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(out / "mlflow.db") as store:
        assert store.execute("select count(*) from runs").fetchone() == (3,)
        return store.execute(
            "select key, step from metrics m join runs r on m.run_uuid = r.run_uuid "
            "where r.name = 'dense_s2' and r.status = 'FINISHED'"
        ).fetchall()


def wandb_values(out: Path) -> list[tuple[str, int]]:
    found, ids = [], set()
    for file in out.glob("wandb/offline-run-*/run-*.wandb"):
        records = wandb_records(file)
        run = next(r.run for r in records if r.HasField("run"))
        if run.display_name != "dense_s2":
            continue
        ids.add(run.run_id)
        for record in (r.history for r in records if r.HasField("history")):
            row = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.item}
            found += [(name, row["_step"]) for name in row if "/" in name]
    assert len(ids) == 1
    return found


def trackio_values(out: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(out / "exported.db") as store:
        rows = store.execute("select step, metrics from metrics where run_name = 'dense_s2'")
        return [(name, step) for step, text in rows for name in json.loads(text) if "/" in name]


@pytest.mark.parametrize(
    ("to", "modules", "values"),
    [
        ("tensorboard", ["tensorboardX"], tensorboard_values),
        ("mlflow", ["mlflow", "sqlalchemy", "alembic"], mlflow_values),
        ("wandb", ["wandb"], wandb_values),
        ("trackio", ["trackio"], trackio_values),
    ],
)
def test_resumed_run_goes_on_as_the_same_run_and_doubles_nothing(
    experiment: Path,
    tmp_path: Path,
    to: str,
    modules: list[str],
    values: Callable[[Path], list[tuple[str, int]]],
) -> None:
    needs(to, *modules)
    out = tmp_path / "out"
    matrix = load_matrix(experiment)
    cell = next(cell for cell in matrix.cells() if cell.name == "dense_s2")
    log = matrix.log_path(cell.run, cell.seed).with_suffix(".jsonl")
    whole = log.read_text()
    log.write_text("".join(whole.splitlines(keepends=True)[:2]))
    folder = matrix.cell_dir(cell.run, cell.seed)
    write_state(folder, State("preempted", 1, started=STARTED, finished=FINISHED))
    exported(experiment, to, out)
    log.write_text(whole)
    write_state(folder, State("done", 2, started=STARTED, finished=FINISHED))
    assert "dense_s2: done at step 3\n" in exported(experiment, to, out)
    expected = [("val/loss", 0), ("val/loss", 3)]
    for name in ("train/loss", "train/lr", "train/tokens_per_second"):
        expected += [(name, step) for step in range(3)]
    assert sorted(values(out)) == sorted(expected)


def test_tracker_that_is_not_installed_is_named(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked" / "tensorboardX").mkdir(parents=True)
    (tmp_path / "blocked" / "tensorboardX" / "__init__.py").write_text(
        "raise ModuleNotFoundError('gone', name='tensorboardX')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "blocked"), prepend=os.pathsep)
    done = export(experiment, "tensorboard", tmp_path / "tb")
    assert done.returncode == 2
    assert "needs tensorboardX, which is not installed: pip install 'pyllmc[tensorboard]'" in (
        done.stderr
    )


def test_folder_that_holds_something_else_is_refused(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "tb").mkdir()
    (tmp_path / "tb" / "kept").write_text("x")
    done = export(experiment, "tensorboard", tmp_path / "tb")
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "tb").iterdir()] == ["kept"]


def test_spoiled_memory_is_refused_with_what_helps(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "tb").mkdir()
    (tmp_path / "tb" / ".pyllmc.json").write_text("{")
    done = export(experiment, "tensorboard", tmp_path / "tb")
    assert done.returncode == 4
    assert ".pyllmc.json is not JSON" in done.stderr
    assert done.stderr.endswith("; give a new folder\n")


def test_nothing_logged_is_told(experiment: Path, tmp_path: Path) -> None:
    needs("tensorboard", "tensorboardX")
    for path in (experiment / "logs").iterdir():
        path.unlink()
    done = export(experiment, "tensorboard", tmp_path / "tb")
    assert done.returncode == 4
    assert "holds no log" in done.stderr
