"""Trackers with wandb's interface: `wandb` itself, offline, and `trackio` in its sqlite files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from contextvars import Context
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from pyllmc.sinks.runs import RunLog
from pyllmc.sinks.sink import Point


def open_sink(name: str, out: Path) -> Wandb | Trackio:
    """Raises ImportError without the package of that name."""
    if name == "wandb":
        return Wandb(import_module("wandb"), out)
    # Where its files go is read from the environment when it is imported.
    os.environ["TRACKIO_DIR"] = str(out.resolve())
    return Trackio(import_module("trackio"))


class Wandb:
    """Offline runs of the project <group>; nothing is sent anywhere."""

    def __init__(self, module: Any, out: Path) -> None:
        self._module = module
        self._out = out

    def open(self, run: RunLog, name: str, key: str | None) -> WandbRun:
        """Each opening makes a folder; those of one run share its id, so `wandb sync` joins
        them."""
        quiet = self._module.Settings(
            silent=True, console="off", disable_git=True, disable_code=True,
            x_disable_stats=True, x_disable_meta=True,
        )  # fmt: skip
        with redirect_stdout(sys.stderr):
            return WandbRun(
                self._module.init(
                    project=run.group, name=name, config=dict(run.config), id=key,
                    resume=None if key is None else "allow", reinit="create_new",
                    dir=str(self._out), mode="offline", settings=quiet,
                )
            )  # fmt: skip


class WandbRun:
    """`key` is wandb's run id."""

    def __init__(self, tracked: Any) -> None:
        self.key = str(tracked.id)
        self._tracked = tracked
        self._exit_code = 1  # that of a run which was cut short

    def log(self, points: Sequence[Point]) -> None:
        for step, values, _ in points:
            self._tracked.log(values, step=step)

    def end(self, status: str, step: int, time: float) -> None:
        self._tracked.config.update({"status": status}, allow_val_change=True)
        self._exit_code = 0 if status in ("done", "unrecorded") else 1

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._tracked.finish(exit_code=self._exit_code)


class Trackio:
    """Runs of the project <group>."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def open(self, run: RunLog, name: str, key: str | None) -> TrackioRun:
        return TrackioRun(self._module, run, key or name)


class TrackioRun:
    """`key` is the run's name."""

    def __init__(self, module: Any, run: RunLog, key: str) -> None:
        self.key = key
        self._module = module
        self._run = run

    def log(self, points: Sequence[Point]) -> None:
        if points:
            values = [(point.step, dict[str, Any](point.values)) for point in points]
            self._write(values, dict(self._run.config))

    def end(self, status: str, step: int, time: float) -> None:
        # A configuration is written with values only.
        told = {"status": status}
        self._write([(step, dict(told))], {**self._run.config, **told})

    def close(self) -> None:
        pass

    def _write(self, values: Sequence[tuple[int, dict[str, Any]]], config: dict[str, Any]) -> None:
        """Finishing is what waits until trackio has written; the next opening resumes the run."""
        with redirect_stdout(StringIO()):  # it greets at every opening
            # It knows one run at a time, and that by the context.
            tracked = Context().run(
                self._module.init, project=self._run.group, name=self.key, config=config,
                resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
            for step, told in values:
                tracked.log(told, step=step)
            tracked.finish()
