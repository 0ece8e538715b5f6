"""One attempt at a cell: the child process, what it leaves behind, and what became of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pyllmc.errors import WriteError
from pyllmc.experiments.identity import file_sha256
from pyllmc.experiments.metrics import read_metrics
from pyllmc.experiments.provenance import provenance
from pyllmc.experiments.state import State, now, own_process, read_state, write_state
from pyllmc.files import atomic_write

HEARTBEAT_SECONDS = 10.0
_DIVERGED = 3
_INTERRUPTED = (75, 130, -signal.SIGINT, -signal.SIGTERM)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Job:
    """All that is needed to run a cell, on this machine or another: plain values and paths."""

    name: str
    command: tuple[str, ...]
    cell_dir: Path
    log: Path
    checkpoint: Path
    record: Mapping[str, Any]  # config.json without what is only known when it starts
    identity: str
    steps: int


def queue(job: Job) -> None:
    """Marks the job's cell as queued, keeping the count of attempts."""
    before = read_state(job.cell_dir)
    attempt = before.attempt if before else 0
    write_state(job.cell_dir, State("queued", attempt, job.identity, updated=now()))


class Attempt:
    """Runs a job once. `start`, then `poll` until it returns true; `state` is the newest record."""

    def __init__(self, job: Job) -> None:
        self.job = job
        before = read_state(job.cell_dir)
        number = (before.attempt if before else 0) + 1
        self.folder = job.cell_dir / "attempts" / str(number)
        self.state = State("queued", number, job.identity)
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._heartbeat = 0.0

    def start(self) -> None:
        """Starts the child in a process group of its own, so that a terminal's Ctrl-C reaches it
        only through `signal`. What keeps it from starting is recorded, not raised."""
        job = self.job
        record = {
            **job.record,
            "identity": job.identity,
            "command": list(job.command),
            **provenance(job.command[0]),
        }
        try:
            # What an earlier attempt left must not pass for this one's if it dies early.
            for path in (job.log, job.log.with_suffix(".jsonl"), job.checkpoint):
                path.unlink(missing_ok=True)
                path.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(job.cell_dir / "config.json", json.dumps(record, indent=1) + "\n")
            with self._stream("stdout.txt") as out, self._stream("stderr.txt") as err:
                self._process = subprocess.Popen(
                    job.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_interrupt_if_parent_dies,
                )
        except OSError as error:
            why = f"{error.filename or job.command[0]}: {error.strerror}"
            self._finish("failed", None, f"could not be started: {why}")
            return
        self._write(
            replace(
                self.state,
                state="running",
                started=now(),
                updated=now(),
                **own_process(self._process.pid),
            )
        )

    def _stream(self, name: str) -> IO[bytes]:
        return open(self.folder / name, "wb")

    def poll(self) -> bool:
        """Whether the attempt is over; keeps the heartbeat while it is not."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            if time.monotonic() - self._heartbeat > HEARTBEAT_SECONDS:
                # A disk that is full for a moment is no reason to end a training run.
                with contextlib.suppress(WriteError):
                    self._write(replace(self.state, updated=now()))
            return False
        self._process = None
        self._finish(*judge(self.job, code, self._killed, self.folder / "stderr.txt"))
        return True

    def end(self, seconds: float) -> None:
        """Waits for a child that was asked to stop; ends it after `seconds`."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(force=True)
            self._process.wait()
        self.poll()

    def signal(self, force: bool) -> None:
        """Asks the child to finish its step and save, or (`force`) ends it and its children."""
        if self._process is None:
            return
        self._killed = self._killed or force
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL if force else signal.SIGINT)

    def _finish(self, outcome: str, code: int | None, message: str) -> None:
        metrics = read_metrics(self.job.log)
        log_hash = (
            file_sha256(self.job.log)
            if outcome in ("done", "diverged") and (self.job.log.exists())
            else None
        )
        step = metrics.end_step if metrics.end_step is not None else metrics.updates
        self._write(
            replace(
                self.state,
                state=outcome,
                updated=now(),
                finished=now(),
                exit_code=code,
                step=step,
                message=message,
                log_sha256=log_hash,
            )
        )

    def _write(self, state: State) -> None:
        self.state = state
        self._heartbeat = time.monotonic()
        write_state(self.job.cell_dir, state)


def _interrupt_if_parent_dies() -> None:
    """Runs in the child before the program: if the runner is killed, the run saves and ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def judge(job: Job, code: int, killed: bool, stderr: Path) -> tuple[str, int, str]:
    """State, exit code and a sentence for a child that ended with `code`.

    Exit code 0 alone does not make a run done: its log must say that it ended at the last step,
    with the settings that were asked for.
    """
    if code == 0:
        problem = _unfinished(job)
        return ("done", code, "") if problem is None else ("failed", code, problem)
    if killed or code in _INTERRUPTED:
        return "interrupted", code, ""
    last = _last_line(stderr)
    if code == _DIVERGED:
        return "diverged", code, last or "loss or gradient not finite"
    if code < 0:
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return "failed", code, f"ended by {signal.Signals(-code).name}{hint}"
    return "failed", code, last or f"exit code {code}"


def _unfinished(job: Job) -> str | None:
    metrics = read_metrics(job.log)
    if not job.log.exists():
        return f"the program reported success but wrote no {job.log}"
    if metrics.end != "done" or metrics.end_step != job.steps:
        return (
            f"the program reported success, but {metrics.path} ends at step "
            f"{metrics.end_step} ({metrics.end}), not done at step {job.steps}"
        )
    for name, wanted in job.record["configuration"]["settings"].items():
        used = metrics.settings.get(name)
        if used is not None and wanted is not None and not _same(used, wanted):
            return f"the program ran with {name} {used}, not {wanted} as asked"
    return None


def _same(used: object, wanted: object) -> bool:
    if isinstance(used, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(used, wanted, rel_tol=1e-6)  # the program may keep single precision
    return used == wanted


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
