"""What to do with each cell, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyllmc.experiments.identity import (
    Configuration,
    Fingerprints,
    configuration,
    differences,
    file_sha256,
    identity,
)
from pyllmc.experiments.inputs import missing_data, model_change
from pyllmc.experiments.matrix import Cell, Matrix, Run
from pyllmc.experiments.metrics import read_metrics
from pyllmc.experiments.state import RESULTS, State, read_json, read_state

RUN, SKIP, REFUSE, BUSY = "run", "skip", "refuse", "busy"


@dataclass(frozen=True)
class Step:
    """A cell with its state now, the action (run, skip, refuse or busy) and the reason for it."""

    cell: Cell
    state: str
    action: str
    reason: str
    configuration: Configuration
    identity: str


def make_plan(matrix: Matrix, cells: Iterable[Cell], *, rerun_changed: bool = False) -> list[Step]:
    """One step a cell, from the cells' own files only; changes nothing.

    Inputs that are still to be made are taken for unchanged.
    """
    cells = list(cells)
    fingerprints = Fingerprints()
    models = {seed: model_change(matrix, seed) for seed in {cell.seed for cell in cells}}
    steps = []
    for cell in cells:
        config = configuration(matrix, cell, fingerprints)
        cell_dir = matrix.cell_dir(cell.run, cell.seed)
        state = read_state(cell_dir)
        if state is not None and state.alive:
            action, reason = BUSY, f"still running as process {state.pid} on {state.host}"
        elif models[cell.seed] is not None and not rerun_changed:
            path = matrix.model_path(cell.seed)
            action, reason = REFUSE, f"{path} was made otherwise: {models[cell.seed]}"
        elif state is None or state.state not in RESULTS:
            action, reason = _unfinished(matrix, cell, state, rerun_changed)
        else:
            action, reason = _finished(matrix, cell, state, config, models[cell.seed])
            if action == REFUSE and rerun_changed:
                action = RUN
        name = state.effective if state else "-"
        steps.append(Step(cell, name, action, reason, config, identity(config)))
    return steps


def _unfinished(
    matrix: Matrix, cell: Cell, state: State | None, rerun_changed: bool
) -> tuple[str, str]:
    log = matrix.log_path(cell.run, cell.seed)
    if state is None:
        if log.exists() and not rerun_changed:
            return REFUSE, f"{log} is there, but nothing records how it was made"
        return RUN, "not run yet" + _to_make(matrix, cell)
    again = f", attempt {state.attempt + 1}"
    if state.effective == "stale":
        return RUN, "its process is gone" + again
    if state.state == "queued":
        return RUN, "queued, but never started" + again
    if state.state == "interrupted":
        return RUN, f"interrupted at step {state.step}{again}"
    return RUN, f"failed ({state.message}){again}"


def _finished(
    matrix: Matrix, cell: Cell, state: State, config: Configuration, model_change: str | None
) -> tuple[str, str]:
    log = matrix.log_path(cell.run, cell.seed)
    changes = _changes(matrix, cell, config)
    if model_change is not None:
        changes.append(f"model: {model_change}")
    if changes:
        return REFUSE, "changed: " + "; ".join(changes)
    if not log.exists():
        return RUN, f"{state.state}, but its log is gone"
    if file_sha256(log) != state.log_sha256:
        return REFUSE, f"{log} was written to after the run had ended"
    return SKIP, f"{state.state} with the same configuration"


def _changes(matrix: Matrix, cell: Cell, config: Configuration) -> list[str]:
    record = read_json(matrix.cell_dir(cell.run, cell.seed) / "config.json") or {}
    before = record.get("configuration")
    if not isinstance(before, dict):
        return ["config.json does not say what was run"]
    return differences(before, config)


def _to_make(matrix: Matrix, cell: Cell) -> str:
    model, data = matrix.model_path(cell.seed), missing_data(cell.run.data)
    made = [] if model.exists() else [str(model)]
    if cell.run.data.prepare is None:
        made += [f"{name} (missing, and not the matrix's to make)" for name in data]
    else:
        made += data
    return f"; needs {', '.join(made)}" if made else ""


def outcome(matrix: Matrix, run: Run, seed: int | None) -> str:
    """What the cell's log is worth, for whoever reads results.

    `done` and `diverged` are results; `running`, `queued`, `failed`, `interrupted` and `stale` are
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
