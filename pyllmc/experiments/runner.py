"""Runs a matrix: inputs, plan, one child process a cell, and what became of each."""

from __future__ import annotations

import fnmatch
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pyllmc.errors import UsageError
from pyllmc.experiments.board import Board
from pyllmc.experiments.command import command
from pyllmc.experiments.display import Display, make_display
from pyllmc.experiments.engine import Engine
from pyllmc.experiments.gpus import Slot, make_slots
from pyllmc.experiments.inputs import check_data, make_model, model_change, prepare_data
from pyllmc.experiments.job import Job
from pyllmc.experiments.lock import locked
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.plan import BUSY, REFUSE, RUN, Step, make_plan
from pyllmc.experiments.pool import LocalPool
from pyllmc.experiments.state import read_state
from pyllmc.experiments.stop import StopRequests

# States of cells that this or another runner still has to finish.
UNFINISHED = {"queued", "running", "preempted", "stale", "busy"}
_POLL_SECONDS = 0.1
_EXIT_FAILED, _EXIT_PREEMPTED, _EXIT_INTERRUPTED = 1, 75, 130


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a run's numbers.

    `threads` is a job's number of threads: None shares this machine's cores out among its slots,
    unless the matrix file has a number.
    """

    program: str
    engine: str = "local"
    jobs: int | None = None
    threads: int | None = None
    gpus: str | None = None
    jobs_per_gpu: int = 1
    scheduler: str | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)
    rerun_changed: bool = False
    retry_failed: bool = False
    fail_fast: bool = False

    @functools.cached_property
    def slots(self) -> list[Slot]:
        """The local pool's. Raises DeviceError when a GPU that was asked for is not there."""
        return make_slots(self.gpus, self.jobs, self.jobs_per_gpu)


class Beside(Protocol):
    """What runs beside a matrix and must not disturb it: nothing here raises. Sentences are for
    whoever watches."""

    def start(self) -> None:
        """Called when all inputs are there and the first run is about to start."""

    def poll(self) -> list[str]:
        """What went wrong since the last call."""

    def close(self, hurry: Callable[[], bool]) -> Iterable[str]:
        """Ends it after the last run, at once when `hurry` says so; the same as `poll`, and what
        is waited for."""


@dataclass(frozen=True)
class Outcome:
    """The board as it was left, and the signal that stopped the runner, if one did."""

    board: Board
    stopped: int | None

    @property
    def exit_code(self) -> int:
        """0; 130 or 75 when Ctrl-C or SIGTERM stopped the runner; 1 when a cell failed; 75 when
        none failed but some are not finished. A diverged cell is a result."""
        if self.stopped is not None:
            return _EXIT_INTERRUPTED if self.stopped == signal.SIGINT else _EXIT_PREEMPTED
        states = {row.state for row in self.board.rows.values()}
        if "failed" in states:
            return _EXIT_FAILED
        return _EXIT_PREEMPTED if states & UNFINISHED else 0


def select_cells(matrix: Matrix, patterns: Sequence[str]) -> list[Cell]:
    """The cells whose name or run matches a glob, all without globs. Raises UsageError."""
    cells = list(matrix.cells())
    for pattern in patterns:
        if not any(_matches(cell, pattern) for cell in cells):
            names = ", ".join(cell.name for cell in cells)
            raise UsageError(f"--only {pattern!r} matches no cell; the cells are {names}")
    return [
        cell
        for cell in cells
        if not patterns or any(_matches(cell, pattern) for pattern in patterns)
    ]


def _matches(cell: Cell, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (cell.name, cell.run.name))


def job_threads(cell: Cell, options: Options) -> int | None:
    """Threads that a cell's program gets; None leaves it to the program, on the machine where it
    runs."""
    given = options.threads or cell.run.settings.get("threads")
    if given:
        return int(given)
    if options.engine != "local":
        return None
    return max(1, len(os.sched_getaffinity(0)) // len(options.slots))


def job_command(matrix: Matrix, cell: Cell, options: Options) -> list[str]:
    """The command line that `run_matrix` starts for a cell.

    One that is given a GPU shall use it, or fail where it cannot.
    """
    asks = options.gpus is not None and "device" not in cell.run.settings
    device = "cuda" if asks else None
    return command(matrix, cell, options.program, job_threads(cell, options), device)


def make_engine(matrix: Matrix, options: Options) -> Engine:
    """The engine that the options name. Raises UsageError when a package it needs is missing."""
    if options.engine == "slurm":
        from pyllmc.experiments.slurm import SlurmEngine, slurm_executor

        return SlurmEngine(slurm_executor(matrix.out, options))
    if options.engine == "dask":
        from pyllmc.experiments.dask_engine import DaskEngine

        return DaskEngine(options.scheduler, gpus=options.gpus is not None)
    return LocalPool(options.slots)


def run_matrix(
    matrix: Matrix,
    cells: Sequence[Cell],
    options: Options,
    engine: Engine | None = None,
    beside: Beside | None = None,
) -> Outcome:
    """Runs what is not finished among `cells`; one that fails stops no other. Two runners on one
    folder share the cells: each is run by whoever claims it first.

    `engine` is made from the options unless given, and closed. Raises UsageError, before anything
    is run, when a cell's configuration has changed; FormatError when data are missing; DeviceError
    when a GPU that was asked for is.
    """
    engine = engine or make_engine(matrix, options)
    try:
        with locked(matrix.out / "cells" / ".lock"):
            check_data(cells)
            _make_inputs(matrix, cells, options.rerun_changed)
            steps = make_plan(
                matrix,
                cells,
                rerun_changed=options.rerun_changed,
                retry_failed=options.retry_failed,
                program=options.program,
            )
            _refuse(steps)
        board = Board.of(matrix, steps)
        with StopRequests() as stop, make_display(board) as display:
            for step in steps:
                if step.action == BUSY:
                    display.say(f"{step.cell.name}: left alone, {step.reason}")
            jobs = [_job(matrix, step, options) for step in steps if step.action == RUN]
            if beside is not None:
                beside.start()
            try:
                _work(engine, jobs, board, display, stop, options.fail_fast, beside)
            finally:
                stopped, asked = stop.first, stop.count
                if beside is not None:
                    for sentence in beside.close(lambda: stop.count > asked):
                        display.say(sentence)
    finally:
        engine.close()
    for row in board.rows.values():
        if row.state == "busy":
            state = read_state(matrix.out / "cells" / row.name)
            row.state = state.effective if state else row.state
    return Outcome(board, stopped)


def _make_inputs(matrix: Matrix, cells: Sequence[Cell], rerun_changed: bool) -> None:
    for weights in dict.fromkeys(matrix.weights(cell.run, cell.seed) for cell in cells):
        path = weights.path
        change = model_change(matrix, weights)
        if change is not None and not rerun_changed:
            raise UsageError(
                f"{path} is another model than the matrix describes ({change}); take "
                "the change back, choose another folder with --out, or make it anew "
                "with --rerun-changed"
            )
        if change is not None or not path.exists():
            print(f"making {path}", file=sys.stderr)
            make_model(matrix, weights)
    prepare_data(matrix, cells)


def _refuse(steps: Iterable[Step]) -> None:
    reasons: dict[str, list[str]] = {}
    for step in steps:
        if step.action == REFUSE:
            reasons.setdefault(step.reason, []).append(step.cell.name)
    if reasons:
        told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
        raise UsageError(
            f"results would be replaced, so nothing was run: {told}: take the change "
            "back, choose another folder with --out, or replace them with "
            "--rerun-changed"
        )


def _job(matrix: Matrix, step: Step, options: Options) -> Job:
    run, seed = step.cell.run, step.cell.seed
    remote = options.engine == "dask"
    return Job(
        name=step.cell.name,
        command=tuple(job_command(matrix, step.cell, options)),
        cwd=Path.cwd(),
        cell_dir=matrix.cell_dir(run, seed),
        log=matrix.log_path(run, seed),
        checkpoint=matrix.checkpoint_path(run, seed),
        record={
            "schema": 1,
            "cell": step.cell.name,
            "run": run.name,
            "seed": seed,
            "configuration": step.configuration,
        },
        identity=step.identity,
        steps=int(run.settings["steps"]),
        after=step.attempt,
        anew=step.anew,
        gpus=options.gpus if remote else None,
        jobs_per_gpu=options.jobs_per_gpu,
    )


def _work(
    engine: Engine,
    jobs: Sequence[Job],
    board: Board,
    display: Display,
    stop: StopRequests,
    fail_fast: bool,
    beside: Beside | None,
) -> None:
    active, waiting, answered = {job.name for job in jobs}, {job.name for job in jobs}, 0
    for job in jobs:
        engine.submit(job)
    while active:
        if stop.count > answered:
            answered = stop.count
            if answered == 1:
                display.say(
                    "stopping: what runs finishes its step and saves; Ctrl-C again ends it now"
                )
            engine.cancel(force=answered > 1)
            board.stopping = True
        for event in engine.poll():
            name = event.job.name
            (waiting.add if event.state.state == "queued" else waiting.discard)(name)
            if event.ended:
                active.discard(name)
            display.changed(board.apply(event))
            if event.state.state == "failed" and fail_fast and not board.stopping:
                display.say(
                    "stopping because of --fail-fast: what runs finishes its step and saves"
                )
                engine.cancel()
                board.stopping = True
        if board.stopping:
            active -= waiting
        for sentence in beside.poll() if beside is not None else ():
            display.say(sentence)
        display.refresh()
        if active:
            time.sleep(_POLL_SECONDS)
