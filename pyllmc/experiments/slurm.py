"""The engine that runs each cell as a Slurm job, through submitit.

Slurm is asked for nothing but whether a job is still in its queue: what became of a run is in the
run's own files. submitit keeps its own files, pickles among them, in cells/.slurm.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyllmc.errors import PyllmcError, UsageError
from pyllmc.experiments.job import Job
from pyllmc.experiments.remote import RemoteEngine
from pyllmc.experiments.state import process_start, read_state
from pyllmc.experiments.worker import worker_command

if TYPE_CHECKING:
    import submitit

    from pyllmc.experiments.runner import Options

_MINUTES = 240
_QUEUE_SECONDS = 10.0
_LOOKS_TWICE = 2


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "--engine slurm needs the package submitit: pip install 'pyllmc[slurm]'"
        ) from None
    return submitit


def slurm_executor(out: Path, options: Options) -> Any:
    """submitit's executor with the parameters of the options. Raises UsageError without submitit,
    Slurm, or for an option it cannot use."""
    submitit = _submitit()
    try:
        executor = submitit.SlurmExecutor(_folder(out), max_num_timeout=1000)
    except RuntimeError:
        raise UsageError(
            "--engine slurm found no srun on this machine; start it where sbatch works, or see "
            "the batch file with --dry-run"
        ) from None
    executor.update_parameters(**_parameters(options))
    return executor


def sbatch_text(out: Path, name: str, options: Options) -> str:
    """The batch file that a cell would be submitted with. Raises UsageError without submitit."""
    _submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    start = [sys.executable, "-u", "-m", "submitit.core._submit", str(_folder(out))]
    return str(
        _make_sbatch_string(
            command=shlex.join(start),
            folder=_folder(out),
            job_name=name,
            **_parameters(options),
        )
    )


def _folder(out: Path) -> Path:
    return (out / "cells" / ".slurm" / "%j").absolute()


def _parameters(options: Options) -> dict[str, Any]:
    from submitit.slurm.slurm import _get_default_parameters

    given: dict[str, Any] = dict(options.slurm)
    minutes = given.pop("time", str(_MINUTES))
    if not minutes.isdecimal() or int(minutes) < 1:
        raise UsageError(f"--slurm-option time={minutes} is no number of minutes; write time=120")
    parameters: dict[str, Any] = {"time": int(minutes)}
    if options.threads:
        parameters["cpus_per_task"] = options.threads
    if options.gpus is not None:
        if options.gpus != "auto":
            raise UsageError("--engine slurm gives each run one GPU: write --gpus auto")
        parameters["gpus_per_node"] = 1
    known = set(_get_default_parameters())
    parameters.update({key: value for key, value in given.items() if key in known})
    other = {key: value for key, value in given.items() if key not in known}
    return {**parameters, "additional_parameters": other} if other else parameters


class Task:
    """What submitit runs: starts the worker and waits for it.

    Before the job's time is up, or when it is preempted, submitit calls `checkpoint`: the run
    saves, and the job is queued again to go on from there.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._pid = 0

    def __call__(self) -> int:
        folder = self.job.cwd / self.job.cell_dir
        with open(folder / "worker.txt", "ab") as words:
            process = subprocess.Popen(
                worker_command(folder),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                preexec_fn=_ignore_usr2,
            )
        self._pid = process.pid
        # Not process.wait(): checkpoint() interrupts it, and must be able to wait as well.
        while process_start(self._pid) is not None:
            time.sleep(0.1)
        return process.wait()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission | None:
        """Stops the run in good order; None when it has ended by itself."""
        from submitit.helpers import DelayedSubmission

        if self._pid:
            os.kill(self._pid, signal.SIGTERM)
            while process_start(self._pid) is not None:
                time.sleep(0.1)
        os.chdir(self.job.cwd)
        state = read_state(self.job.cell_dir)
        if state is None or state.state not in ("preempted", "queued"):
            return None
        again = replace(self.job, after=state.attempt, anew=state.anew)
        again.queue()
        return DelayedSubmission(Task(again))

    __submitit_checkpoint__ = checkpoint


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class SlurmEngine(RemoteEngine):
    """One Slurm job a cell. `executor` is submitit's, local or Slurm's."""

    noun = "Slurm job"

    def __init__(self, executor: Any) -> None:
        super().__init__()
        self._executor = executor
        self._submitted: dict[str, Any] = {}
        self._missing: dict[str, int] = {}
        self._asked = 0.0
        self._queue: set[str] | None = None

    def send(self, job: Job) -> None:
        try:
            self._executor.update_parameters(job_name=job.name)
            self._submitted[job.name] = self._executor.submit(Task(job))
        except Exception as error:
            raise PyllmcError(f"Slurm did not take {job.name}: {error}") from error

    def gone(self, job: Job) -> bool:
        submitted = self._submitted[job.name]
        if submitted.paths.result_pickle.exists():
            return True
        if time.monotonic() - self._asked > _QUEUE_SECONDS:
            self._asked, self._queue = time.monotonic(), _queued_jobs()
            for name, other in self._submitted.items():
                here = self._queue is None or other.job_id in self._queue
                self._missing[name] = 0 if here else self._missing.get(name, 0) + 1
        return self._missing.get(job.name, 0) >= _LOOKS_TWICE

    def drop(self, job: Job) -> None:
        self._submitted[job.name].cancel(check=False)

    def close(self) -> None:
        """Jobs that still run are Slurm's and go on."""


def _queued_jobs() -> set[str] | None:
    """Numbers of the jobs in Slurm's queue; None when it does not answer."""
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--format", "%A", "--user", str(os.getuid())],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())
