"""Writes what a matrix's runs have logged into a tracker: once, or again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from pyllmc.errors import PyllmcError
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.sinks.memory import Memory, Sent
from pyllmc.sinks.runs import RunLog, Values, load_run, log_file
from pyllmc.sinks.sink import Point, Sink, TrackedRun

Tell = Callable[[str], None]


class Follower:
    """A matrix's runs on their way into `sink`. `say` gets a sentence a run that ended, `warn` one
    a run that the sink failed on: that run is left out from then on."""

    def __init__(self, matrix: Matrix, sink: Sink, memory: Memory, say: Tell, warn: Tell) -> None:
        self._matrix = matrix
        self._sink = sink
        self._memory = memory
        self._say = say
        self._warn = warn
        self._open: dict[str, TrackedRun] = {}
        self._seen: dict[str, tuple[object, ...]] = {}  # by cell: its files when last read
        self._until: dict[str, float] = {}  # by cell: the time of the last point
        self.failed: set[str] = set()

    def look(self) -> None:
        """Writes whatever is new."""
        for cell in self._matrix.cells():
            if cell.name in self.failed:
                continue
            try:
                self._look(cell)
            except Exception as error:  # trackers raise anything, and no run may suffer
                self._leave_out(cell.name, error)

    def close(self) -> None:
        """Closes the runs that go on; another follower may open them again."""
        for name, tracked in list(self._open.items()):
            try:
                tracked.close()
            except Exception as error:
                self._leave_out(name, error)
        self._open.clear()

    def _leave_out(self, name: str, error: Exception) -> None:
        self.failed.add(name)
        self._open.pop(name, None)
        kind = "" if isinstance(error, PyllmcError) else f"{type(error).__name__}: "
        told = " ".join(f"{kind}{error}".split())
        self._warn(f"{name} is left out from here on, its own files have it all: {told}")

    def _look(self, cell: Cell) -> None:
        files = self._files(cell)
        if files == self._seen.get(cell.name):
            return
        sent = self._memory.sent.get(cell.name)
        steps, beginning = (sent.steps, sent.beginning) if sent else ({}, None)
        try:
            run = load_run(self._matrix, cell, steps, beginning)
        except (PyllmcError, OSError):
            if self._files(cell) != files:
                return  # replaced while it was read: the next look will do
            raise
        if run is None:
            return
        known = sent if sent is not None and sent.beginning == run.beginning else None
        # A run that has only been claimed again may yet be begun anew.
        ended = known is not None and not run.open and known.status != run.status
        if run.points or ended:
            self._write(run, known, replaced=sent is not None and known is None)
        self._seen[cell.name] = files

    def _files(self, cell: Cell) -> tuple[object, ...]:
        """Changes whenever the cell's log or state does."""
        state = self._matrix.cell_dir(cell.run, cell.seed) / "state.json"
        found: list[object] = []
        for path in (log_file(self._matrix, cell), state):
            with contextlib.suppress(FileNotFoundError):
                if path is not None:
                    facts = path.stat()
                    found += [facts.st_mtime_ns, facts.st_size, facts.st_ino]
        return tuple(found)

    def _write(self, run: RunLog, known: Sent | None, *, replaced: bool) -> None:
        tracked = None if known is None else self._open.get(run.name)
        if tracked is None:
            # What a changed configuration replaced stays in the tracker under its old name.
            name = f"{run.name}_attempt{run.beginning}" if replaced else run.name
            tracked = self._sink.open(run, name, known.key if known else None)
        sent = known or Sent(tracked.key, run.beginning)
        tracked.log(self._timed(run, sent))
        for step, values in run.points:
            sent.steps.update(dict.fromkeys(values, step))
        if run.open:
            self._open[run.name] = tracked
        else:
            self._open.pop(run.name, None)
            last = max(sent.steps.values())
            tracked.end(run.status, last, run.finished)
            tracked.close()
            self._say(f"{run.name}: {run.status} at step {last:,}")
        sent.status = run.status
        self._memory.sent[run.name] = sent
        self._memory.save()

    def _timed(self, run: RunLog, sent: Sent) -> Sequence[Point]:
        """The new points, the time since the last ones shared out evenly among their steps."""
        if not run.points:
            return []
        until = time.time() if run.open else run.finished
        since = min(self._until.get(run.name, run.started), until)
        self._until[run.name] = until
        before = max(sent.steps.values(), default=0)
        pace = (until - since) / max(1, run.points[-1][0] - before)

        def timed(step: int, values: Values) -> Point:
            return Point(step, values, since + pace * (step - before))

        return [timed(step, values) for step, values in run.points]
