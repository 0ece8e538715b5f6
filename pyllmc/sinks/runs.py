"""A matrix's runs as what every tracker wants: a name, a configuration, numbers by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.state import State, read_json, read_state
from pyllmc.logs import LogFile, full_log, read_log_files

Values = dict[str, float]


@dataclass(frozen=True)
class RunLog:
    """One run of `group` (the experiment).

    `points` are (step, values by name), steps ascending; names are `<split>/<quantity>`, losses in
    nats a token. `status` is the cell's state, "unrecorded" for a log without one. `started` and
    `finished` are seconds since 1970.
    """

    name: str
    group: str
    config: Mapping[str, Any]
    status: str
    started: float
    finished: float
    points: tuple[tuple[int, Values], ...]

    def time(self, step: int) -> float:
        """When a step was about done: the run's time, shared out evenly."""
        last = self.points[-1][0] or 1
        return self.started + (self.finished - self.started) * step / last


def load_runs(matrix: Matrix) -> Iterator[RunLog]:
    """The runs of a matrix that have logged something, in its order.

    Values come from the .jsonl where there is one. Raises FormatError for a file that cannot be
    read.
    """
    for cell in matrix.cells():
        log = matrix.log_path(cell.run, cell.seed)
        path = full_log(log) if full_log(log).is_file() else log
        if not path.is_file():
            continue
        points = _points(path)
        if not points:
            continue
        folder = matrix.cell_dir(cell.run, cell.seed)
        state = read_state(folder)
        started, finished = _times(path, state)
        yield RunLog(
            cell.name,
            matrix.folder.resolve().name,
            _config(cell, read_json(folder / "config.json") or {}),
            state.effective if state else "unrecorded",
            started,
            finished,
            points,
        )


def _points(path: Path) -> tuple[tuple[int, Values], ...]:
    rows = read_log_files([LogFile(path, path.stem)], full=True)
    quantities = [name for name in rows.columns if name not in ("run", "seed", "step", "split")]
    found: dict[int, Values] = {}
    for quantity in quantities:
        # A loss that is not a number was logged so; of the others it means that none was.
        there = rows if quantity == "loss" else rows.dropna(subset=[quantity])
        for step, split, value in zip(
            there["step"].tolist(), there["split"].tolist(), there[quantity].tolist(), strict=True
        ):
            found.setdefault(step, {})[f"{split}/{quantity}"] = value
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
