"""One attempt at a cell: the child process, what it leaves behind, and what became of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from pyllmc.errors import WriteError
from pyllmc.experiments.gpus import Slot
from pyllmc.experiments.job import Job
from pyllmc.experiments.judge import judge
from pyllmc.experiments.lock import MachineUse
from pyllmc.experiments.metrics import read_metrics
from pyllmc.experiments.provenance import provenance, uncommitted
from pyllmc.experiments.state import (
    RESULTS,
    State,
    cell_lock,
    keep_attempt,
    now,
    process_start,
    read_state,
    runner_process,
    write_state,
)
from pyllmc.experiments.stop import cancel_request, clear_cancel, stop_with_parent
from pyllmc.files import atomic_write, file_sha256

HEARTBEAT_SECONDS = 10.0
# How long the program of a killed runner may take to finish its step and save.
_LEFT_OVER_SECONDS = 60.0
# Threads that spin while they wait slow down whatever else this machine runs.
_WAIT_POLICY = "OMP_WAIT_POLICY"


class Attempt:
    """Runs a job once. `start`, then `poll` until it returns true; `state` is the newest record.

    `slot` is the room it runs in; `undisturbed` says that the engine runs nothing beside it.
    """

    def __init__(self, job: Job, slot: Slot, *, undisturbed: bool = False) -> None:
        self.job = job
        self.slot = slot
        self.state = State("queued", job.after, job.identity)
        self.over = False
        self._undisturbed = undisturbed
        self._anew = False
        self._before: State | None = None  # what the cell said before
        self._give_up = 0.0
        self._program_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._use: MachineUse | None = None
        self._stops = 0  # 0 not asked to stop, 1 after the step, 2 now
        self._heartbeat = 0.0
        self._looked = 0.0

    @property
    def folder(self) -> Path:
        """What this attempt leaves behind."""
        return self.job.cell_dir / "attempts" / str(self.state.attempt)

    def start(self) -> None:
        """Claims the cell; the program starts with the first `poll` that finds nothing in its way.

        Over at once, with the state `busy` (never written), when another runner owns the cell, and
        with the state found when another one has finished it since the job was planned.
        """
        cell_dir = self.job.cell_dir
        with cell_lock(cell_dir):
            before = read_state(cell_dir)
            number = (before.attempt if before else 0) + 1
            if before is not None and before.alive:
                self._end(busy(before))
            elif before is not None and number > self.job.after + 1 and self._is_result(before):
                self._end(before)
            elif cancel_request(cell_dir, number):
                clear_cancel(cell_dir)
                message = "cancelled before it started"
                self._end(State("preempted", number - 1, self.job.identity, updated=now(),
                                message=message, anew=self._starts_anew(before)))  # fmt: skip
                write_state(cell_dir, self.state)
            else:
                self._claim(before, number)

    def _is_result(self, state: State) -> bool:
        return state.state in RESULTS and state.identity == self.job.identity

    def _starts_anew(self, before: State | None) -> bool:
        if before is None or before.attempt == self.job.after:
            return self.job.anew
        return before.anew

    def _claim(self, before: State | None, number: int) -> None:
        self._anew = self._starts_anew(before)
        if before is not None and before.state == "running":
            keep_attempt(self.job.cell_dir, before)
        self._before, self._give_up = before, time.monotonic() + _LEFT_OVER_SECONDS
        self.state = State(
            "running",
            number,
            self.job.identity,
            started=now(),
            updated=now(),
            anew=self._anew,
            **runner_process(),
        )
        write_state(self.job.cell_dir, self.state)
        self._heartbeat = time.monotonic()

    def _left_over(self) -> bool:
        """Whether the program of a killed runner still saves; one that does not end is ended.

        A program holds a lock on its cell's files as long as it lives.
        """
        descriptor = os.open(self.job.cell_dir / ".program", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            before = self._before
            if before and before.pid and before.child_alive and time.monotonic() > self._give_up:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(before.pid, signal.SIGKILL)
            return True
        self._program_lock = descriptor
        return False

    def _spawn(self) -> None:
        """Starts the program in a process group of its own, so that a terminal's Ctrl-C reaches it
        only through `signal`. What keeps it from starting is recorded, not raised."""
        job = self.job
        command = job.command if self._anew else (*job.command, "--resume")
        waiting = os.environ.get(_WAIT_POLICY, "passive")
        environment = {_WAIT_POLICY: waiting, **self.slot.environment}
        record = {
            **job.record,
            "identity": job.identity,
            "command": list(command),
            "environment": environment,
            **provenance(command[0], self.slot.gpu),
        }
        try:
            if self._anew:
                self._clear()
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in (job.log, job.checkpoint):
                path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(record, indent=1) + "\n"
            atomic_write(self.folder / "config.json", text)
            atomic_write(job.cell_dir / "config.json", text)
            if record["git"]["dirty"]:
                atomic_write(self.folder / "uncommitted.patch", uncommitted())
            self._use = MachineUse()
            locks = (self._use.descriptor, self.slot.descriptor, self._program_lock)
            with self._stream("stdout.txt") as out, self._stream("stderr.txt") as err:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **environment},
                    start_new_session=True,
                    # The locks last as long as the program, whoever is killed.
                    pass_fds=[lock for lock in locks if lock is not None],
                    preexec_fn=stop_with_parent,
                )
        except (OSError, WriteError) as error:
            why = (
                f"{error.filename or command[0]}: {error.strerror}"
                if isinstance(error, OSError)
                else str(error)
            )
            self._finish("failed", None, f"could not be started: {why}")
            return
        finally:
            if self._program_lock is not None:
                os.close(self._program_lock)
                self._program_lock = None
        self._write(
            replace(
                self.state,
                updated=now(),
                pid=self._process.pid,
                process_start=process_start(self._process.pid),
                anew=False,
                alone=self._undisturbed and self._use.alone(),
            )
        )

    def _clear(self) -> None:
        """What an earlier attempt left must not pass for this one's."""
        for path in (self.job.log, self.job.log.with_suffix(".jsonl"), self.job.checkpoint):
            path.unlink(missing_ok=True)
        if self.job.training_state.exists():
            shutil.rmtree(self.job.training_state)

    def _stream(self, name: str) -> IO[bytes]:
        return open(self.folder / name, "wb")

    def poll(self) -> bool:
        """Whether the attempt is over; keeps the heartbeat while it is not."""
        if self.over:
            return True
        if self._process is None:
            if self._stops:
                self._finish("preempted", None, "stopped before it started")
            elif self._left_over():
                self._beat()
            else:
                self._spawn()
            return self.over
        code = self._process.poll()
        if code is None:
            self._look()
            return self.over
        self._process = None
        killed = self._stops > 1
        self._finish(*judge(self.job, code, killed, self.folder / "stderr.txt"))
        return True

    def _look(self) -> None:
        """Once a second: was it asked to stop from elsewhere, and is it alone?"""
        if time.monotonic() - self._looked < 1:
            return
        self._looked = time.monotonic()
        asked = cancel_request(self.job.cell_dir, self.state.attempt)
        if asked > self._stops:
            self.signal(force=asked > 1)
        if self.state.alone and self._use is not None and not self._use.alone():
            self.state = replace(self.state, alone=False)
        self._beat()

    def _beat(self) -> None:
        if time.monotonic() - self._heartbeat < HEARTBEAT_SECONDS:
            return
        # A disk that is full for a moment is no reason to end a training run.
        with contextlib.suppress(WriteError):
            self._write(replace(self.state, updated=now()))

    def end(self, seconds: float) -> None:
        """Waits for a program that was asked to stop; ends it after `seconds`."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.signal(force=True)
                self._process.wait()
        self.poll()

    def signal(self, force: bool) -> None:
        """Asks the program to finish its step and save, or (`force`) ends it and its children."""
        self._stops = max(self._stops, 2 if force else 1)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL if force else signal.SIGTERM)

    def _finish(self, outcome: str, code: int | None, message: str) -> None:
        metrics = read_metrics(self.job.log)
        log_hash = (
            file_sha256(self.job.log) if outcome in RESULTS and self.job.log.exists() else None
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
        if not self.over:
            keep_attempt(self.job.cell_dir, self.state)
            self._end(self.state)

    def _end(self, state: State) -> None:
        self.state = state
        self.over = True
        if self._use is not None:
            self._use.close()
            self._use = None

    def _write(self, state: State) -> None:
        """Records the state while the cell is still this attempt's. One that was taken for gone and
        replaced ends its program and writes nothing more."""
        with cell_lock(self.job.cell_dir):
            owner = read_state(self.job.cell_dir)
            if owner is not None and _claim_of(owner) == _claim_of(self.state):
                write_state(self.job.cell_dir, state)
                self.state = state
                self._heartbeat = time.monotonic()
                return
        self.signal(force=True)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._end(busy(owner or self.state))


def busy(state: State) -> State:
    """A cell that another runner owns, as this runner shows it."""
    owner = f"process {state.runner_pid} on {state.host}"
    return replace(state, state="busy", message=f"run by {owner}")


def _claim_of(state: State) -> tuple[object, ...]:
    return state.attempt, state.host, state.boot_id, state.runner_pid, state.runner_start
