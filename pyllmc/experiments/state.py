"""A cell's own record of itself (cells/<cell>/): the only truth about what became of it."""

from __future__ import annotations

import json
import os
import socket
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyllmc.errors import FormatError
from pyllmc.experiments.lock import locked
from pyllmc.files import atomic_write, read_json_object

STATES = ("queued", "running", "preempted", "done", "failed", "diverged")
# Finished, with numbers that count: running again would give the same.
RESULTS = ("done", "diverged")
# Seconds without a heartbeat after which another machine's run counts as gone.
_SILENCE = 120.0


@dataclass(frozen=True)
class State:
    """state.json, which is also the claim on a running cell: whoever wrote `running` owns it while
    its process (the runner) is there, or, seen from another machine, while `updated` is young.

    Times are UTC in ISO format. `process_start` and `runner_start` are in clock ticks since boot,
    which tells a process from a later one with the same number; `pid` is the training program's.
    `anew`: nothing that an earlier attempt left may be built on. `alone`: no other cell trained on
    this machine meanwhile, so that wall-clock times mean something; None when that is unknown.
    """

    state: str
    attempt: int = 0
    identity: str = ""
    pid: int | None = None
    process_start: int | None = None
    runner_pid: int | None = None
    runner_start: int | None = None
    boot_id: str | None = None
    host: str | None = None
    started: str | None = None
    updated: str | None = None
    finished: str | None = None
    exit_code: int | None = None
    step: int | None = None
    message: str = ""
    log_sha256: str | None = None
    anew: bool = False
    alone: bool | None = None

    @property
    def alive(self) -> bool:
        """Whether the runner that owns the cell is still there, as far as this machine can see."""
        if self.state != "running":
            return False
        if self.host != socket.gethostname():
            # Another machine's process cannot be looked at; its heartbeat can.
            age = datetime.now(UTC) - datetime.fromisoformat(self.updated or "1970-01-01T00:00Z")
            return age.total_seconds() < _SILENCE
        return self.boot_id == boot_id() and _is(self.runner_pid, self.runner_start)

    @property
    def child_alive(self) -> bool:
        """Whether the training program itself still runs on this machine."""
        return (
            self.host == socket.gethostname()
            and self.boot_id == boot_id()
            and _is(self.pid, self.process_start)
        )

    @property
    def effective(self) -> str:
        """The state, or `stale` for a running one whose process is gone."""
        return "stale" if self.state == "running" and not self.alive else self.state


def _is(pid: int | None, start: int | None) -> bool:
    return pid is not None and process_start(pid) == start is not None


def now() -> str:
    """The time as the state files write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def boot_id() -> str:
    """What names this start of this machine: process numbers mean nothing after the next."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def process_start(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when it is gone (or a zombie)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name may hold blanks and brackets, so fields are counted after the last bracket.
    after = text.rpartition(")")[2].split()
    return None if after[0] in "ZX" else int(after[19])


def read_state(cell_dir: Path) -> State | None:
    """The cell's state, None when it was never queued. Raises FormatError on a spoiled file."""
    table = read_record(cell_dir / "state.json")
    if table is None:
        return None
    known = {field.name for field in fields(State)}
    if table.get("state") not in STATES:
        raise FormatError(
            f"{cell_dir / 'state.json'} says state {table.get('state')!r}; it must "
            f"be one of {', '.join(STATES)}; remove the file to run the cell again"
        )
    return State(**{key: value for key, value in table.items() if key in known})


def write_state(cell_dir: Path, state: State) -> None:
    """Replaces the cell's state in one step."""
    atomic_write(cell_dir / "state.json", json.dumps(asdict(state), indent=1) + "\n")


def keep_attempt(cell_dir: Path, state: State) -> None:
    """Keeps how an attempt ended in its own folder, as the next one replaces the cell's state. One
    that still says `running` was its killed runner's."""
    if state.state == "running":
        state = replace(state, state="preempted", message="its runner was killed")
    path = cell_dir / "attempts" / str(state.attempt) / "state.json"
    atomic_write(path, json.dumps(asdict(state), indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """One of the JSON files in a cell's folder, None when there is none. Raises FormatError."""
    return read_json_object(path, "remove it to run the cell again")


def read_attempt(cell_dir: Path, number: int, name: str) -> dict[str, Any] | None:
    """A file that attempt `number` left, None when there is none. Raises FormatError."""
    path = cell_dir / "attempts" / str(number) / name
    return read_json_object(path, "remove it, nothing but reports and trackers read it")


def runner_process() -> dict[str, Any]:
    """The fields that name this process as the owner of a cell."""
    return {
        "runner_pid": os.getpid(),
        "runner_start": process_start(os.getpid()),
        "boot_id": boot_id(),
        "host": socket.gethostname(),
    }


def cell_lock(cell_dir: Path) -> AbstractContextManager[None]:
    """Held while a cell's state is read and written in one go; never while it trains."""
    return locked(cell_dir / ".lock")
