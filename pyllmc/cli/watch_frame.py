"""What `pyllmc watch` shows: one table of a matrix's cells as they are now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pyllmc.experiments.board import STYLES, Board, Row
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.metrics import Metrics
from pyllmc.experiments.state import read_state
from pyllmc.terminal import clock, number

# Which cells stay when the window is too low for all, first to last.
_URGENCY = ("running", "failed", "stale", "preempted", "diverged", "queued", "-", "done")
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 20
_KEPT = 4096
# Columns by the width that they need; what does not fit is left out, least telling first.
_COLUMNS = (
    (104, ("cell", "state", "step", "train loss", "loss curve", "val loss", "tokens/s", "left")),
    (84, ("cell", "state", "step", "loss curve", "val loss", "tokens/s", "left")),
    (62, ("cell", "state", "step", "val loss", "tokens/s", "left")),
    (0, ("cell", "state", "step", "left")),
)
_LEFT = ("cell", "state", "loss curve")


class History(Metrics):
    """A run's log with its training losses so far, thinned evenly."""

    def _reset(self) -> None:
        super()._reset()
        self.losses: list[float] = []
        self._every = 1
        self._seen = 0

    def _take(self, record: dict[str, Any]) -> None:
        super()._take(record)
        loss = record.get("loss")
        if record.get("type") != "train" or not isinstance(loss, (int, float)):
            return
        if self._seen % self._every == 0:
            self.losses.append(float(loss))
        self._seen += 1
        if len(self.losses) > _KEPT:
            self.losses = self.losses[::2]
            self._every *= 2


class Watch:
    """The cells of a matrix, read again with `refresh` and shown with `frame`."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self._cells = list(matrix.cells())
        self.board = Board({cell.name: self._row(cell) for cell in self._cells})

    def _row(self, cell: Cell) -> Row:
        log = self.matrix.log_path(cell.run, cell.seed)
        steps = int(cell.run.settings["steps"])
        return Row(cell.name, "-", steps, True, History(log.with_suffix(".jsonl")))

    def refresh(self) -> None:
        """Reads every cell's state and what was logged since the last time."""
        for cell in self._cells:
            row = self.board.rows[cell.name]
            state = read_state(self.matrix.cell_dir(cell.run, cell.seed))
            row.metrics.poll()
            row.steps = int(row.metrics.settings.get("steps") or row.steps)
            if state is None:  # run by hand or by the plain script: its log is all there is
                row.state = row.metrics.end or ("unrecorded" if row.metrics.updates else "-")
                continue
            row.state, row.message, row.attempt = state.effective, state.message, state.attempt
            row.seconds = _seconds(state.started, state.finished)

    def frame(self, width: int, height: int | None = None, footer: str = "") -> Group:
        """A table for a window of `width` columns and `height` lines (None: as many as needed)."""
        rows = list(self.board.rows.values())
        room = len(rows) if height is None else max(1, height - 6)
        shown = rows
        if len(rows) > room:
            urgent = sorted(rows, key=lambda row: _rank(row.state))[:room]
            shown = [row for row in rows if row in urgent]
        names = next(names for needed, names in _COLUMNS if width >= needed)
        table = Table(box=None, pad_edge=False, expand=False)
        for name in names:
            table.add_column(
                name, justify="left" if name in _LEFT else "right", no_wrap=True,
                overflow="ellipsis", min_width=None if name == "cell" else len(name),
            )  # fmt: skip
        for row in shown:
            values = _values(row)
            table.add_row(*(values[name] for name in names))
        lines: list[Table | Text] = [
            Text(self.matrix.title, style="bold", no_wrap=True, overflow="ellipsis"),
            Text(self._summary(), no_wrap=True, overflow="ellipsis"),
            Text(),
            table,
        ]
        if len(shown) < len(rows):
            hidden = Counter(row.state for row in rows if row not in shown)
            told = ", ".join(f"{count} {_said(state)}" for state, count in hidden.items())
            lines.append(Text(f"… and {told}", style="dim"))
        if height is None:
            lines += [_trouble(row) for row in rows if row.message and row.state in _URGENCY[1:5]]
        if footer:
            lines.append(Text(footer, style="dim"))
        return Group(*lines)

    def _summary(self) -> str:
        rows = self.board.rows.values()
        counts = Counter(row.state for row in rows)
        parts = [f"{counts[state]} {_said(state)}" for state in sorted(counts, key=_rank)]
        speeds = [row.metrics.tokens_per_second for row in rows if row.state == "running"]
        known = [speed for speed in speeds if speed is not None]
        if known:
            parts.append(f"{sum(known):,.0f} tokens/s")
        if counts["running"] and self.board.left is not None:
            parts.append(f"about {clock(self.board.left)} left")
        return ", ".join(parts)


def sparkline(losses: Sequence[float], width: int = _SPARK) -> str:
    """Losses as bars of `width` characters at most, each the mean of its share of the steps; `×`
    for a share with a value that is not finite.

    The scale leaves the first bar out, whose height would flatten all others.
    """
    if not losses:
        return ""
    count = min(width, len(losses))
    edges = [i * len(losses) // count for i in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means[1:] or means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_bar(mean, low, high) for mean in means)


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "×"
    share = (value - low) / (high - low) if high > low else float(value > low)
    share = min(1.0, max(0.0, share))
    return _BARS[round(share * (len(_BARS) - 1))]


def _values(row: Row) -> dict[str, Text]:
    metrics = row.metrics
    running = row.state == "running"
    took = "" if row.seconds is None else f"took {clock(row.seconds)}"
    losses = metrics.losses if isinstance(metrics, History) else []
    cells = {
        "cell": row.name,
        "step": f"{metrics.updates:,}/{row.steps:,}",
        "train loss": number(metrics.train_loss) if metrics.updates else "",
        "loss curve": sparkline(losses),
        "val loss": "" if metrics.val_step is None else number(metrics.val_loss),
        "tokens/s": number(metrics.tokens_per_second, ",.0f") if running else "",
        "left": clock(row.left) if running else took,
    }
    style = "dim" if row.state in ("queued", "-") else ""
    found = {name: Text(value, style=style) for name, value in cells.items()}
    found["state"] = Text(_said(row.state), style=STYLES.get(row.state, ""))
    return found


def _trouble(row: Row) -> Text:
    return Text(f"{row.name}: {row.state}, {row.message}", style=STYLES.get(row.state, ""))


def _rank(state: str) -> int:
    return _URGENCY.index(state) if state in _URGENCY else 0


def _said(state: str) -> str:
    return "not run" if state == "-" else state


def _seconds(started: str | None, finished: str | None) -> float | None:
    if started is None or finished is None:
        return None
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
