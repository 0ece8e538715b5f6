"""Trackers with wandb's interface: `wandb` itself, offline, and `trackio` in its sqlite files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from pyllmc.sinks.runs import RunLog

LOOK = {
    "wandb": "wandb sync {out}/wandb/offline-run-*",
    "trackio": "TRACKIO_DIR={out} trackio show",
}


def write(name: str, runs: Iterable[RunLog], out: Path) -> None:
    """One run of the project <group> in `out`; nothing is sent anywhere."""
    out.mkdir(parents=True, exist_ok=True)
    if name == "wandb":
        module = import_module("wandb")
        quiet = module.Settings(silent=True, console="off", disable_git=True, disable_code=True,
                                x_disable_stats=True, x_disable_meta=True)  # fmt: skip
        options: dict[str, Any] = {
            "dir": str(out), "mode": "offline", "reinit": "finish_previous", "settings": quiet,
        }  # fmt: skip
    else:
        # Where its files go is read from the environment when it is imported.
        os.environ["TRACKIO_DIR"] = str(out.resolve())
        module = import_module("trackio")
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    for run in runs:
        config = {**run.config, "status": run.status}
        with redirect_stdout(sys.stderr):
            tracked = module.init(project=run.group, name=run.name, config=config, **options)
            for step, values in run.points:
                tracked.log(values, step=step)
            module.finish()
