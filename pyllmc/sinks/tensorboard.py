"""TensorBoard event files: one folder a run, by tensorboardX."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pyllmc.sinks.runs import RunLog
from pyllmc.sinks.sink import Point


def open_sink(name: str, out: Path) -> EventFiles:
    """Raises ImportError without tensorboardX."""
    return EventFiles(import_module("tensorboardX"), out)


class EventFiles:
    """A folder `out`/<name> a run: its scalars, its configuration and states as text."""

    def __init__(self, module: Any, out: Path) -> None:
        self._module = module
        self._out = out

    def open(self, run: RunLog, name: str, key: str | None) -> EventFile:
        """Each opening adds a file to the run's folder; TensorBoard shows them as one run."""
        # Files are told apart by the second, unless their names say more.
        writer = self._module.SummaryWriter(
            str(self._out / (key or name)), filename_suffix=f".{time.time_ns()}"
        )
        if key is None:
            told = json.dumps(run.config, indent=2, default=str)
            writer.add_text("configuration", f"```\n{told}\n```", 0, walltime=run.started)
        return EventFile(writer, key or name)


class EventFile:
    """`key` is the folder's name."""

    def __init__(self, writer: Any, key: str) -> None:
        self.key = key
        self._writer = writer

    def log(self, points: Sequence[Point]) -> None:
        for step, values, when in points:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step, walltime=when)
        self._writer.flush()

    def end(self, status: str, step: int, time: float) -> None:
        self._writer.add_text("status", status, step, walltime=time)

    def close(self) -> None:
        self._writer.close()
