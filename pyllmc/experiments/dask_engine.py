"""The engine that runs cells on the machines of a Dask cluster.

A task only starts a worker process and watches it: nothing that computes runs inside Dask's own
processes, which must answer their scheduler. When a Dask worker dies, the scheduler gives its tasks
to another, where the run goes on from its last checkpoint.

Workers want as many threads as cells are to run at a time on their machine, and no memory limit,
which would count what is not theirs: `dask worker ADDRESS --nthreads 1 --memory-limit 0`.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from pyllmc.errors import PyllmcError, UsageError
from pyllmc.experiments.job import Job
from pyllmc.experiments.remote import RemoteEngine
from pyllmc.experiments.worker import worker_command

_CONNECT_SECONDS = 15


def watch(folder: str) -> int:
    """The task: runs the job queued in a cell's folder; returns the worker's exit code."""
    with open(Path(folder) / "worker.txt", "ab") as words:
        process = subprocess.Popen(
            worker_command(Path(folder)),
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    while process.poll() is None:
        time.sleep(0.2)
    return process.returncode


class DaskEngine(RemoteEngine):
    """One task a cell. Raises UsageError without the package, PyllmcError without a scheduler.

    With `gpus` a task asks for one unit of the resource GPU, as in `dask worker --resources GPU=4`.
    """

    noun = "Dask task"

    def __init__(self, address: str | None, *, gpus: bool = False) -> None:
        super().__init__()
        try:
            from distributed import Client
        except ImportError:
            raise UsageError(
                "--engine dask needs the package distributed: pip install 'pyllmc[cluster]'"
            ) from None
        connect: Any = Client  # without types of its own
        try:
            self._client = connect(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PyllmcError(f"no Dask scheduler answers at {address}: {error}") from error
        self._resources = {"GPU": 1} if gpus else None
        self._futures: dict[str, Any] = {}
        try:
            self._client.get_versions(check=True)
        except ValueError as error:
            self._client.close()
            raise UsageError(f"the Dask cluster at {address} has other versions: {error}") from None

    def send(self, job: Job) -> None:
        self._futures[job.name] = self._client.submit(
            watch,
            str(job.cwd / job.cell_dir),
            # The same attempt submitted by two runners is one task.
            key=f"{job.name}-{job.identity[:8]}-{job.after}",
            resources=self._resources,
            pure=False,
        )

    def gone(self, job: Job) -> bool:
        return bool(self._futures[job.name].done())

    def drop(self, job: Job) -> None:
        self._futures[job.name].cancel()

    def close(self) -> None:
        self._client.close()
