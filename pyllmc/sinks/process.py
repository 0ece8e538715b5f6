"""`pyllmc export runs --follow` beside a running matrix, one process a tracker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyllmc.experiments.stop import stop_with_parent

WARNING = "warning: "  # how a follower's lines begin that the runner repeats
_ERROR = "pyllmc: "
_SOME_LEFT_OUT = 1
# What a tracker may take for its last points before the runner goes without it.
_LAST_SECONDS = 60.0
_TOLD_SECONDS = 2.0
_POLL_SECONDS = 0.05


@dataclass
class _Follower:
    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    read: int = 0
    error: str | None = None  # its last words
    over: bool = False


class Followers:
    """The processes that write into trackers; whatever becomes of them, nothing is raised.

    `words` are the arguments of `pyllmc export runs` that name the experiment.
    """

    def __init__(self, names: Sequence[str], out: Path, words: Sequence[str]) -> None:
        self._out = out
        self._names = list(dict.fromkeys(names))
        self._words = list(words)
        self._all: list[_Follower] = []

    def start(self) -> None:
        """Starts one process a tracker; each writes to `out`/<tracker>."""
        for name in self._names:
            words = [*self._words, "--to", name, "--out", str(self._out / name), "--follow"]
            errors = tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(
                [sys.executable, "-m", "pyllmc", "export", "runs", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # A terminal's Ctrl-C is the runner's: the runs have more to log.
                start_new_session=True,
                preexec_fn=_before_it_starts,
            )
            self._all.append(_Follower(name, process, errors))

    def poll(self) -> list[str]:
        """What went wrong since the last call, a sentence each."""
        return [sentence for one in self._all for sentence in self._news(one)]

    def close(self, hurry: Callable[[], bool]) -> Iterator[str]:
        """Has the last points written, unless it takes too long or `hurry` says that nobody wants
        to wait; the same as `poll` about it."""
        for one in self._running():
            one.process.terminate()
        began = time.monotonic()
        told = False
        while (left := self._running()) and not hurry():
            waited = time.monotonic() - began
            if waited > _LAST_SECONDS:
                break
            if waited > _TOLD_SECONDS and not told:
                told = True
                names = ", ".join(one.name for one in left)
                yield f"waiting until {names} got the last points; Ctrl-C goes on without"
            time.sleep(_POLL_SECONDS)
        for one in self._all:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()
            yield from self._news(one)
            one.errors.close()

    def _running(self) -> list[_Follower]:
        return [one for one in self._all if one.process.poll() is None]

    def _news(self, one: _Follower) -> Iterable[str]:
        if one.over:
            return
        # Asked before the file is read: once the process has ended, the file is complete.
        code = one.process.poll()
        # Not by seeking: the process writes at the same position of the same open file.
        written = os.fstat(one.errors.fileno()).st_size
        read = os.pread(one.errors.fileno(), written - one.read, one.read)
        whole = read[: read.rfind(b"\n") + 1]
        one.read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line.startswith(WARNING):
                yield f"--sink {one.name}: {line.removeprefix(WARNING)}"
            elif line.startswith(_ERROR):
                one.error = line.removeprefix(_ERROR)
        if code is None:
            return
        one.over = True
        if one.error is None and code not in (0, _SOME_LEFT_OUT):
            one.error = f"it ended with {code}"
        if one.error is not None:
            yield (
                f"--sink {one.name} gets nothing more, the runs go on and keep it all in their "
                f"own files: {one.error}"
            )


def _before_it_starts() -> None:
    """SIGTERM waits until the program can answer it: the last points are written in any case."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    stop_with_parent()
