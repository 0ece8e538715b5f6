"""What a run has logged so far, read from its .jsonl as it grows."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any


class Metrics:
    """The newest values of one run's log. `poll` reads only what was appended since.

    Lines that are not JSON objects are passed over; a torn last line is read when it is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reset()

    def _reset(self) -> None:
        self._offset = 0
        self._torn = b""
        self._times: deque[float] = deque(maxlen=50)
        self.settings: dict[str, Any] = {}
        self.updates = 0  # optimizer steps that were logged
        self.train_loss: float | None = None
        self.val_loss: float | None = None
        self.val_step: int | None = None
        self.tokens_per_second: float | None = None
        self.end: str | None = None
        self.end_step: int | None = None

    def poll(self) -> bool:
        """Reads what is new; true when there was something."""
        try:
            with open(self.path, "rb") as stream:
                if stream.seek(0, 2) < self._offset:
                    self._reset()  # the log was started again
                stream.seek(self._offset)
                new = stream.read()
        except OSError:
            return False
        self._offset += len(new)
        *lines, self._torn = (self._torn + new).split(b"\n")
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                self._take(record)
        return bool(lines)

    def _take(self, record: dict[str, Any]) -> None:
        kind, step, loss = record.get("type"), record.get("step"), record.get("loss")
        if kind == "settings":
            self.settings = record
        elif kind == "train" and isinstance(step, int):
            self.updates = step + 1
            self.train_loss = loss
            self.tokens_per_second = record.get("tokens_per_second")
            if isinstance(record.get("ms"), (int, float)):
                self._times.append(record["ms"] / 1000)
        elif kind == "val":
            self.val_loss, self.val_step = loss, step
        elif kind == "end":
            self.end, self.end_step = record.get("status"), step

    @property
    def seconds_per_step(self) -> float | None:
        """Median over the last 50 steps."""
        return median(self._times) if self._times else None


def read_metrics(log: Path) -> Metrics:
    """What the run that writes `log` (log_<cell>.txt) has logged by now."""
    metrics = Metrics(log.with_suffix(".jsonl"))
    metrics.poll()
    return metrics
