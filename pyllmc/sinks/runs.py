"""A matrix's runs as what every tracker wants: a name, a configuration, numbers by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc import _core
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.state import State, read_attempt, read_record, read_state
from pyllmc.logs import full_log

Values = dict[str, float]
Steps = Mapping[str, int]


@dataclass(frozen=True)
class RunLog:
    """One run of `group` (the experiment).

    `points` are (step, values by name), steps ascending; names are `<split>/<quantity>`, losses in
    nats a token. `status` is the cell's state, "unrecorded" for a log without one. `started` and
    `finished` (of what has not finished: when its log last grew) are seconds since 1970.
    `beginning` is the attempt that began the log, 0 when that is unknown.
    """

    name: str
    group: str
    config: Mapping[str, Any]
    status: str
    started: float
    finished: float
    beginning: int
    points: tuple[tuple[int, Values], ...]

    @property
    def open(self) -> bool:
        """Whether more is to come without another `matrix run`."""
        return self.status in ("running", "queued")


def log_file(matrix: Matrix, cell: Cell) -> Path | None:
    """The log that says most about a cell: the .jsonl where there is one; None without any."""
    log = matrix.log_path(cell.run, cell.seed)
    return next((path for path in (full_log(log), log) if path.is_file()), None)


def load_run(matrix: Matrix, cell: Cell, beyond: Steps, beginning: int | None) -> RunLog | None:
    """A cell's run with what it logged `beyond` the given steps (by name), which count only if its
    log was begun by attempt `beginning`. None while it has not logged anything.

    Raises FormatError for a file that cannot be read.
    """
    path = log_file(matrix, cell)
    if path is None:
        return None
    folder = matrix.cell_dir(cell.run, cell.seed)
    # First: once the state says that the run has ended, its log is complete.
    state = read_state(folder)
    began = _beginning(folder)
    points = _points(path, beyond if began == beginning else {})
    if _beginning(folder) != began:
        return None  # started anew just now: what was read may be of either
    started, finished = _times(path, state)
    return RunLog(
        cell.name,
        matrix.folder.resolve().name,
        _config(cell, read_record(folder / "config.json") or {}),
        state.effective if state else "unrecorded",
        started,
        finished,
        began,
        points,
    )


def _beginning(cell_dir: Path) -> int:
    """The newest attempt that went on with nothing: it began the log."""
    numbers = [int(path.name) for path in (cell_dir / "attempts").glob("[0-9]*")]
    for number in sorted(numbers, reverse=True):
        record = read_attempt(cell_dir, number, "config.json")
        if record is not None and "--resume" not in record.get("command", ()):
            return number
    return 0


def _points(path: Path, beyond: Steps) -> tuple[tuple[int, Values], ...]:
    found: dict[int, Values] = {}
    for split, series in _core.parse_log(str(path))["splits"].items():
        steps = series["step"]
        for quantity, values in series.items():
            if quantity == "step":
                continue
            name = f"{split}/{quantity}"
            kept = steps > beyond.get(name, -1)
            if quantity != "loss":
                # A loss that is not a number was logged so; of the others, none was.
                kept &= ~np.isnan(values)
            for step, value in zip(steps[kept].tolist(), values[kept].tolist(), strict=True):
                found.setdefault(step, {})[name] = value
    return tuple(sorted(found.items()))


def _times(path: Path, state: State | None) -> tuple[float, float]:
    """Start and end, from the cell's state; where it does not say, the log's last change."""
    changed = path.stat().st_mtime
    started = _seconds(state.started if state else None, changed)
    return started, max(started, _seconds(state.finished if state else None, changed))


def _seconds(time: str | None, otherwise: float) -> float:
    return otherwise if time is None else datetime.fromisoformat(time).timestamp()


def _config(cell: Cell, record: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded configuration by dotted names, or without a record the matrix's settings."""
    config: dict[str, Any] = {"run": cell.run.name, "label": cell.run.label, "seed": cell.seed}
    made = record.get("configuration") or {"settings": dict(cell.run.settings)}
    for section, values in made.items():
        items = values.items() if isinstance(values, Mapping) else [("", values)]
        config.update({f"{section}.{key}".rstrip("."): value for key, value in items})
    config["commit"] = (record.get("git") or {}).get("commit")
    return {key: value for key, value in config.items() if value is not None}
