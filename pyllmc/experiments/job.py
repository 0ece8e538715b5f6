"""A cell as an engine gets it: plain values that also lie in the cell's own folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyllmc.errors import FormatError
from pyllmc.experiments.state import (
    State,
    cell_lock,
    keep_attempt,
    now,
    read_state,
    write_state,
)
from pyllmc.experiments.stop import clear_cancel
from pyllmc.files import atomic_write, read_json_object

FILE_NAME = "job.json"
_PATHS = ("cwd", "cell_dir", "log", "checkpoint")


@dataclass(frozen=True)
class Job:
    """All that is needed to run a cell, on this machine or another. Paths are relative to `cwd`.

    `after` is the number of attempts when the job was planned; `anew` says that the next one must
    build on nothing that they left. `gpus` and `jobs_per_gpu` are for engines that choose a device
    where the cell runs.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path
    cell_dir: Path
    log: Path
    checkpoint: Path
    record: Mapping[str, Any]  # config.json without what is only known when it starts
    identity: str
    steps: int
    after: int
    anew: bool
    gpus: str | None = None
    jobs_per_gpu: int = 1

    @property
    def training_state(self) -> Path:
        """Folder in which the program keeps what `--resume` goes on from."""
        return self.checkpoint.with_suffix(".state")

    def queue(self) -> None:
        """Writes the job into the cell's folder and marks the cell as queued, unless another
        runner has taken it meanwhile."""
        with cell_lock(self.cell_dir):
            before = read_state(self.cell_dir)
            if (before.attempt if before else 0) != self.after or (before and before.alive):
                return
            table = {k: str(v) if k in _PATHS else v for k, v in asdict(self).items()}
            atomic_write(self.cell_dir / FILE_NAME, json.dumps(table, indent=1) + "\n")
            clear_cancel(self.cell_dir)
            queued = State("queued", self.after, self.identity, updated=now(), anew=self.anew)
            if before is not None and before.state == "running":
                keep_attempt(self.cell_dir, before)
                # Its program may still be saving, which the next attempt has to wait for.
                queued = replace(
                    queued,
                    pid=before.pid,
                    process_start=before.process_start,
                    boot_id=before.boot_id,
                    host=before.host,
                )
            write_state(self.cell_dir, queued)


def read_job(cell_dir: Path) -> Job:
    """The job that was queued in a cell's folder. Raises FormatError."""
    path = cell_dir / FILE_NAME
    again = "queue the cell again with `pyllmc matrix run`"
    table = read_json_object(path, again)
    if table is None:
        raise FormatError(f"{path} is missing: `pyllmc matrix run` writes it when it queues a cell")
    try:
        paths = {key: Path(table[key]) for key in _PATHS}
        return Job(**{**table, **paths, "command": tuple(table["command"])})
    except (KeyError, TypeError) as error:
        raise FormatError(
            f"{path} does not describe a job ({type(error).__name__}: {error}): {again}"
        ) from error
