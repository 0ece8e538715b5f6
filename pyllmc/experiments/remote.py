"""What engines have in common whose jobs run elsewhere: they watch the cells' own files."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace

from pyllmc.experiments.attempt import busy
from pyllmc.experiments.engine import Event
from pyllmc.experiments.job import Job
from pyllmc.experiments.state import read_state
from pyllmc.experiments.stop import request_cancel

_FINAL = ("done", "failed", "diverged")
_POLL_SECONDS = 1.0


class RemoteEngine(ABC):
    """Base of engines that hand a cell's folder to something else."""

    # How an engine calls what it runs, for messages.
    noun = "job"

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._polled = 0.0

    @abstractmethod
    def send(self, job: Job) -> None:
        """Hands the job over."""

    @abstractmethod
    def gone(self, job: Job) -> bool:
        """Whether the engine will do nothing more for the job, whatever became of it."""

    @abstractmethod
    def drop(self, job: Job) -> None:
        """Takes a job that has not begun back, as far as that is possible."""

    def submit(self, job: Job) -> None:
        job.queue()
        self._jobs[job.name] = job
        self._seen[job.name] = ("queued", job.after)
        self.send(job)

    def poll(self) -> list[Event]:
        if time.monotonic() - self._polled < _POLL_SECONDS:
            return []
        self._polled = time.monotonic()
        events = []
        for name, job in list(self._jobs.items()):
            gone = self.gone(job)  # asked first: what it wrote last is then in the files
            state = read_state(job.cell_dir)
            if state is None:
                continue
            ended = gone or (state.state in _FINAL and state.attempt > job.after)
            if gone and state.alive:
                state = busy(state)
            elif gone and state.effective in ("queued", "stale"):
                message = f"its {self.noun} ended without a word; {job.cell_dir}/worker.txt may say"
                state = replace(state, state="preempted", message=f"{message} why")
            if ended or (state.state, state.attempt) != self._seen[name]:
                self._seen[name] = (state.state, state.attempt)
                events.append(Event(job, state, ended))
            if ended:
                del self._jobs[name]
        return events

    def cancel(self, *, force: bool = False) -> None:
        self._polled = 0.0  # the next poll tells what has begun since the last one
        for job in self._jobs.values():
            state = read_state(job.cell_dir)
            if state is not None and state.state in ("queued", "running"):
                request_cancel(job.cell_dir, state.attempt + (state.state == "queued"), force=force)
            if state is None or state.state != "running":
                self.drop(job)
