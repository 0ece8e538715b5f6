"""Engines run jobs; the local pool is the one that runs them as children of this process."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from pyllmc.experiments.attempt import Attempt, Job, queue
from pyllmc.experiments.state import State

_GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    """A job changed its state."""

    job: Job
    state: State


class Engine(Protocol):
    """What the runner needs of whatever runs jobs. The cells' own files hold the truth; an engine
    only says when they changed."""

    def submit(self, job: Job) -> None:
        """Takes a job; it starts when there is room."""

    def poll(self) -> list[Event]:
        """Changes since the last call; never waits."""

    def cancel(self, *, force: bool = False) -> None:
        """Starts nothing more; running jobs finish their step and save, or (`force`) end now."""

    def close(self) -> None:
        """Ends what still runs and gives everything back."""


class LocalPool:
    """Child processes on this machine, at most `slots` at a time."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiting: deque[Job] = deque()
        self._running: list[Attempt] = []

    def submit(self, job: Job) -> None:
        queue(job)
        self._waiting.append(job)

    def poll(self) -> list[Event]:
        events = []
        for attempt in list(self._running):
            if attempt.poll():
                self._running.remove(attempt)
                events.append(Event(attempt.job, attempt.state))
        while self._waiting and len(self._running) < self._slots:
            attempt = Attempt(self._waiting.popleft())
            attempt.start()
            if attempt.state.state == "running":
                self._running.append(attempt)
            events.append(Event(attempt.job, attempt.state))
        return events

    def cancel(self, *, force: bool = False) -> None:
        self._waiting.clear()
        for attempt in self._running:
            attempt.signal(force)

    def close(self) -> None:
        self._waiting.clear()
        for attempt in self._running:
            attempt.signal(force=False)
        for attempt in self._running:
            attempt.end(_GRACE_SECONDS)
        self._running.clear()
