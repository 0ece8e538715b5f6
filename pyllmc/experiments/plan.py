"""What to do with each cell, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyllmc.experiments.identity import (
    Configuration,
    Fingerprints,
    configuration,
    differences,
    identity,
)
from pyllmc.experiments.inputs import missing_data, model_change
from pyllmc.experiments.matrix import Cell, Matrix, Run
from pyllmc.experiments.metrics import read_metrics
from pyllmc.experiments.provenance import program_sha256
from pyllmc.experiments.state import RESULTS, State, read_record, read_state
from pyllmc.files import file_sha256

RUN, SKIP, REFUSE, BUSY = "run", "skip", "refuse", "busy"


@dataclass(frozen=True)
class Step:
    """A cell with its state now, the action (run, skip, refuse or busy) and the reason for it.

    `attempt` is the number of attempts so far; `anew` says that the next one starts from nothing.
    """

    cell: Cell
    state: str
    action: str
    reason: str
    configuration: Configuration
    identity: str
    attempt: int = 0
    anew: bool = True


def make_plan(
    matrix: Matrix,
    cells: Iterable[Cell],
    *,
    rerun_changed: bool = False,
    retry_failed: bool = False,
    program: str | None = None,
) -> list[Step]:
    """One step a cell, from the cells' own files only; changes nothing.

    Inputs that are still to be made are taken for unchanged. Of cells with the same configuration
    only the first is run. With `rerun_changed` an unfinished cell that another build of `program`
    has begun starts anew: no build goes on with what another one left.
    """
    cells = list(cells)
    fingerprints = Fingerprints()
    started_from = {cell.name: matrix.weights(cell.run, cell.seed) for cell in cells}
    models = {weights: model_change(matrix, weights) for weights in set(started_from.values())}
    first: dict[tuple[str, Path | None], str] = {}
    steps = []
    for cell in cells:
        config = configuration(matrix, cell, fingerprints)
        weights = started_from[cell.name]
        change, model = models[weights], weights.path
        state = read_state(matrix.cell_dir(cell.run, cell.seed))
        # Weights that are still to be made differ if their files do.
        key = (identity(config), None if model.exists() else model)
        anew = True
        if state is not None and state.alive:
            owner = f"process {state.runner_pid} on {state.host}"
            action, reason = BUSY, f"being run by {owner}"
        elif first.setdefault(key, cell.name) != cell.name:
            action, reason = SKIP, f"the same configuration as {first[key]}, so the same run"
        elif change is not None and not rerun_changed:
            action, reason = REFUSE, f"{model} was made otherwise: {change}"
        elif state is None or (state.attempt == 0 and state.state == "queued"):
            action, reason = _new(matrix, cell, rerun_changed)
        else:
            changes = _changes(matrix, cell, config)
            if change is not None:
                changes.append(f"model: {change}")
            if changes:
                action = RUN if rerun_changed else REFUSE
                reason = "changed: " + "; ".join(changes)
            elif state.state in RESULTS:
                action, reason = _finished(matrix, cell, state)
                action = RUN if action == REFUSE and rerun_changed else action
            elif rerun_changed and _other_program(matrix, cell, program):
                action, reason = RUN, f"{state.effective}, begun by another build of {program}"
            else:
                action, reason = _unfinished(state, retry_failed)
                anew = state.anew
        steps.append(
            Step(
                cell,
                state.effective if state else "-",
                action,
                reason,
                config,
                identity(config),
                state.attempt if state else 0,
                anew,
            )
        )
    return steps


def _new(matrix: Matrix, cell: Cell, rerun_changed: bool) -> tuple[str, str]:
    log = matrix.log_path(cell.run, cell.seed)
    if log.exists() and not rerun_changed:
        return REFUSE, f"{log} is there, but nothing records how it was made"
    return RUN, "not run yet" + _to_make(matrix, cell)


def _unfinished(state: State, retry_failed: bool) -> tuple[str, str]:
    if state.state == "failed" and not retry_failed:
        return SKIP, f"failed ({state.message}); --retry-failed runs it again"
    why = {
        "failed": f"failed ({state.message})",
        "stale": "its runner is gone",
        "queued": "queued, but not started",
        "preempted": f"stopped at step {state.step or 0}",
    }[state.effective]
    goes = "from the start" if state.anew else "from its last checkpoint"
    return RUN, f"{why}; attempt {state.attempt + 1} {goes}"


def _finished(matrix: Matrix, cell: Cell, state: State) -> tuple[str, str]:
    log = matrix.log_path(cell.run, cell.seed)
    if not log.exists():
        return RUN, f"{state.state}, but its log is gone"
    if file_sha256(log) != state.log_sha256:
        return REFUSE, f"{log} was written to after the run had ended"
    return SKIP, f"{state.state} with the same configuration"


def _changes(matrix: Matrix, cell: Cell, config: Configuration) -> list[str]:
    record = read_record(matrix.cell_dir(cell.run, cell.seed) / "config.json")
    if record is None:
        return []  # the attempt ended before it wrote one, so it left nothing
    before = record.get("configuration")
    if not isinstance(before, dict):
        return ["config.json does not say what was run"]
    return differences(before, config)


def _other_program(matrix: Matrix, cell: Cell, program: str | None) -> bool:
    record = read_record(matrix.cell_dir(cell.run, cell.seed) / "config.json") or {}
    before = record.get("program_sha256")
    return None not in (program, before) and before != program_sha256(str(program))


def _to_make(matrix: Matrix, cell: Cell) -> str:
    model, data = matrix.weights(cell.run, cell.seed).path, missing_data(cell.run.data)
    made = [] if model.exists() else [str(model)]
    if cell.run.data.prepare is None:
        made += [f"{name} (missing, and not the matrix's to make)" for name in data]
    else:
        made += data
    return f"; needs {', '.join(made)}" if made else ""


def outcome(matrix: Matrix, run: Run, seed: int | None) -> str:
    """What the cell's log is worth, for whoever reads results.

    `done` and `diverged` are results; `running`, `queued`, `failed`, `preempted` and `stale` are
    logs of an attempt that did not end; `changed`: the log was written to after its run had ended;
    `missing`: there is no log. A log that no runner recorded (made by the plain script) is judged
    by its .jsonl, and is `unrecorded` when that says nothing.
    """
    log = matrix.log_path(run, seed)
    state = read_state(matrix.cell_dir(run, seed))
    if not log.exists():
        return state.effective if state and state.state not in RESULTS else "missing"
    if state is None:
        return read_metrics(log).end or "unrecorded"
    if state.state in RESULTS and file_sha256(log) != state.log_sha256:
        return "changed"
    return state.effective
