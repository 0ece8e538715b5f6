"""Runs a matrix: inputs, plan, one child process a cell, and what became of each."""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

from pyllmc.errors import UsageError
from pyllmc.experiments.attempt import Job
from pyllmc.experiments.board import Board
from pyllmc.experiments.command import command
from pyllmc.experiments.inputs import check_data, make_model, model_change, prepare_data
from pyllmc.experiments.lock import folder_lock
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.plan import BUSY, REFUSE, RUN, Step, make_plan
from pyllmc.experiments.pool import Engine, LocalPool
from pyllmc.experiments.progress import Display, make_display

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a run's numbers.

    `threads` is a job's number of threads: None shares the cores out among the jobs, unless the
    matrix file has a number.
    """

    program: str
    jobs: int = 1
    threads: int | None = None
    rerun_changed: bool = False


@dataclass(frozen=True)
class Outcome:
    """The board as it was left, and whether the runner was interrupted."""

    board: Board
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0, 1 when a cell failed or could not be run, 130 when interrupted. A diverged cell is a
        result."""
        if self.interrupted:
            return 130
        bad = ("failed", "interrupted", "running")
        return 1 if any(row.state in bad for row in self.board.rows.values()) else 0


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


def job_threads(cell: Cell, options: Options) -> int:
    """Threads that a cell's program gets."""
    given = options.threads or cell.run.settings.get("threads")
    return int(given) if given else max(1, len(os.sched_getaffinity(0)) // options.jobs)


def job_command(matrix: Matrix, cell: Cell, options: Options) -> list[str]:
    """The command line that `run_matrix` starts for a cell."""
    return command(matrix, cell, options.program, job_threads(cell, options))


def run_matrix(matrix: Matrix, cells: Sequence[Cell], options: Options) -> Outcome:
    """Runs what is not finished among `cells`; one that fails stops no other.

    Raises UsageError, before anything is run, when a finished cell's configuration has changed or
    another runner owns the folder; FormatError when data are missing.
    """
    with folder_lock(matrix.out):
        check_data(cells)
        _make_inputs(matrix, cells, options.rerun_changed)
        steps = make_plan(matrix, cells, rerun_changed=options.rerun_changed)
        _refuse(steps)
        board = Board.of(matrix, steps, options.jobs)
        engine = LocalPool(options.jobs)
        with _StopRequests() as stop, make_display(board) as display:
            for step in steps:
                if step.action == BUSY:
                    display.say(f"{step.cell.name}: left alone, {step.reason}")
            jobs = [_job(matrix, step, options) for step in steps if step.action == RUN]
            _work(engine, jobs, board, display, stop)
        return Outcome(board, interrupted=stop.count > 0)


def _make_inputs(matrix: Matrix, cells: Sequence[Cell], rerun_changed: bool) -> None:
    for seed in dict.fromkeys(cell.seed for cell in cells):
        path = matrix.model_path(seed)
        change = model_change(matrix, seed)
        if change is not None and not rerun_changed:
            raise UsageError(
                f"{path} is another model than the matrix describes ({change}); take "
                "the change back, choose another folder with --out, or make it anew "
                "with --rerun-changed"
            )
        if change is not None or not path.exists():
            print(f"making {path}", file=sys.stderr)
            make_model(matrix, seed)
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
    return Job(
        name=step.cell.name,
        command=tuple(job_command(matrix, step.cell, options)),
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
    )


def _work(
    engine: Engine, jobs: Sequence[Job], board: Board, display: Display, stop: _StopRequests
) -> None:
    waiting, running, answered = {job.name for job in jobs}, set[str](), 0
    try:
        for job in jobs:
            engine.submit(job)
        while waiting or running:
            if stop.count > answered:
                answered = stop.count
                engine.cancel(force=answered > 1)
                waiting.clear()
                board.stopping = True
                if answered == 1:
                    display.say(
                        "stopping: what runs finishes its step and saves; Ctrl-C again ends it now"
                    )
            for event in engine.poll():
                waiting.discard(event.job.name)
                (running.add if event.state.state == "running" else running.discard)(event.job.name)
                display.changed(board.apply(event))
            display.refresh()
            if waiting or running:
                time.sleep(_POLL_SECONDS)
    finally:
        engine.close()


class _StopRequests:
    """Counts SIGINT and SIGTERM instead of dying of them, inside a `with` block."""

    def __init__(self) -> None:
        self.count = 0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

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
