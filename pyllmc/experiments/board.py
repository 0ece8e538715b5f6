"""What is known about the cells of a running matrix: the model behind every display."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from pyllmc.experiments.engine import Event
from pyllmc.experiments.matrix import Matrix
from pyllmc.experiments.metrics import Metrics
from pyllmc.experiments.plan import BUSY, RUN, Step

# How a terminal shows a cell's state.
STYLES = {
    "running": "bold cyan",
    "done": "green",
    "failed": "bold red",
    "diverged": "magenta",
    "preempted": "yellow",
    "stale": "yellow",
    "queued": "dim",
    "-": "dim",
}


@dataclass
class Row:
    """One cell: its state, its log so far, when it began and how long it took (seconds)."""

    name: str
    state: str
    steps: int
    to_run: bool
    metrics: Metrics
    message: str = ""
    attempt: int = 0
    began: float | None = None
    seconds: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until a running cell ends, at the pace of its last steps."""
        pace = self.metrics.seconds_per_step
        if self.state != "running" or pace is None:
            return None
        return max(0, self.steps - self.metrics.updates) * pace


@dataclass
class Board:
    """The rows in the matrix file's order, and the clock."""

    rows: dict[str, Row]
    stopping: bool = False
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, matrix: Matrix, steps: Iterable[Step]) -> Board:
        """A board of a plan's cells."""
        rows = {}
        for step in steps:
            cell, to_run = step.cell, step.action == RUN
            log = matrix.log_path(cell.run, cell.seed)
            row = Row(
                cell.name,
                "queued" if to_run else "busy" if step.action == BUSY else step.state,
                int(cell.run.settings["steps"]),
                to_run,
                Metrics(log.with_suffix(".jsonl")),
                message=step.reason,
            )
            if not to_run:
                row.metrics.poll()
            rows[row.name] = row
        return cls(rows)

    def apply(self, event: Event) -> Row:
        """Takes a change of state in; returns the row."""
        row = self.rows[event.job.name]
        row.state, row.message = event.state.state, event.state.message
        row.attempt = event.state.attempt
        if row.state == "running":
            row.began = time.monotonic()
        elif row.began is not None:
            row.seconds = time.monotonic() - row.began
            row.metrics.poll()
        return row

    def count(self, *states: str) -> int:
        """How many of the cells to be run are in one of the states."""
        return sum(row.to_run and row.state in states for row in self.rows.values())

    @property
    def to_run(self) -> int:
        """How many cells this runner takes on."""
        return sum(row.to_run for row in self.rows.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the runner began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """Seconds until the last cell ends, None until a pace is known."""
        paces = [row.metrics.seconds_per_step for row in self.rows.values() if row.to_run]
        known = [pace for pace in paces if pace is not None]
        if not known:
            return None
        usual = median(known)
        running = [row.left or 0 for row in self.rows.values() if row.state == "running"]
        side_by_side = max(1, len(running))
        waiting = [
            row.steps * usual for row in self.rows.values() if row.to_run and row.state == "queued"
        ]
        return max([(sum(running) + sum(waiting)) / side_by_side, *running])
