"""Requests to stop: signals to the runner, and files that reach a run wherever it runs."""

from __future__ import annotations

import ctypes
import json
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from pyllmc.files import atomic_write, read_json_object

_FILE = "cancel.json"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StopRequests:
    """Counts SIGINT and SIGTERM instead of dying of them, inside a `with` block."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None  # the signal that came first

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or number

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def request_cancel(cell_dir: Path, attempt: int, *, force: bool = False) -> None:
    """Asks attempt number `attempt` of a cell to finish its step and save, or (`force`) to end
    now. An attempt that is still to come does not start."""
    atomic_write(cell_dir / _FILE, json.dumps({"attempt": attempt, "force": force}) + "\n")


def cancel_request(cell_dir: Path, attempt: int) -> int:
    """How that attempt was asked to stop: 0 not at all, 1 after its step, 2 now."""
    request = read_json_object(cell_dir / _FILE, "remove it and run `pyllmc matrix cancel` again")
    if request is None or request.get("attempt") != attempt:
        return 0
    return 2 if request.get("force") else 1


def clear_cancel(cell_dir: Path) -> None:
    """Forgets a request that is of no more use."""
    (cell_dir / _FILE).unlink(missing_ok=True)


def stop_with_parent() -> None:
    """From here on this process gets SIGTERM when its parent is gone. For a child to call before
    its program starts, too: what it is to run then saves and ends with the runner."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
