"""The local pool: an engine that runs jobs as children of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pyllmc.experiments.attempt import Attempt
from pyllmc.experiments.engine import Event
from pyllmc.experiments.gpus import Slot
from pyllmc.experiments.job import Job

_GRACE_SECONDS = 60.0


class LocalPool:
    """Child processes on this machine, one in each slot at a time."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free = list(slots)
        self._single = len(slots) == 1
        self._waiting: deque[Job] = deque()
        self._running: list[Attempt] = []

    def submit(self, job: Job) -> None:
        job.queue()
        self._waiting.append(job)

    def poll(self) -> list[Event]:
        events = []
        for attempt in list(self._running):
            if attempt.poll():
                self._running.remove(attempt)
                self._free.append(attempt.slot)
                attempt.slot.release()
                events.append(Event(attempt.job, attempt.state, ended=True))
        if events:
            return events  # told first: the runner may want nothing more to start
        while self._waiting and (slot := self._take_slot()) is not None:
            attempt = Attempt(self._waiting.popleft(), slot, undisturbed=self._single)
            attempt.start()
            self._running.append(attempt)
            if not attempt.over:
                events.append(Event(attempt.job, attempt.state, ended=False))
        return events

    def _take_slot(self) -> Slot | None:
        for slot in self._free:
            if slot.acquire():
                self._free.remove(slot)
                return slot
        return None

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
            attempt.slot.release()
        self._running.clear()
