"""TensorBoard event files: one folder a run, by tensorboardX."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from pyllmc.sinks.runs import RunLog

LOOK = "tensorboard --logdir {out}"


def write(runs: Iterable[RunLog], out: Path) -> None:
    """One folder `out`/<run> with its scalars and, as text, its configuration."""
    tensorboard_x = import_module("tensorboardX")
    for run in runs:
        with tensorboard_x.SummaryWriter(str(out / run.name)) as writer:
            told = json.dumps({**run.config, "status": run.status}, indent=2, default=str)
            writer.add_text("configuration", f"```\n{told}\n```", 0, walltime=run.started)
            for step, values in run.points:
                for name, value in values.items():
                    writer.add_scalar(name, value, step, walltime=run.time(step))
