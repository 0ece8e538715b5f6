"""What the runner needs of whatever runs jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyllmc.experiments.job import Job
from pyllmc.experiments.state import State


@dataclass(frozen=True)
class Event:
    """A job changed its state; `ended`: the engine does nothing more for it."""

    job: Job
    state: State
    ended: bool


class Engine(Protocol):
    """The cells' own files hold the truth; an engine only says when they changed."""

    def submit(self, job: Job) -> None:
        """Takes a job; it starts when there is room."""

    def poll(self) -> list[Event]:
        """Changes since the last call; never waits."""

    def cancel(self, *, force: bool = False) -> None:
        """Starts nothing more; running jobs finish their step and save, or (`force`) end now."""

    def close(self) -> None:
        """Ends what still runs and gives everything back."""
