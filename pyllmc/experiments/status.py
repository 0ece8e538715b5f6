"""The cells of a matrix as they are now, from their own files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pyllmc.experiments.matrix import FILE_NAME, Matrix, load_matrix
from pyllmc.experiments.metrics import read_metrics
from pyllmc.experiments.state import State, read_state


def cell_status(matrix: Matrix) -> list[dict[str, Any]]:
    """One mapping a cell, in the matrix file's order; `state` is `-` for a cell never run."""
    rows = []
    for cell in matrix.cells():
        run, seed = cell.run, cell.seed
        state = read_state(matrix.cell_dir(run, seed))
        log = matrix.log_path(run, seed)
        metrics = read_metrics(log)
        rows.append(
            {
                "cell": cell.name,
                "run": run.name,
                "seed": seed,
                "state": state.effective if state else "-",
                "attempt": state.attempt if state else 0,
                "step": metrics.updates,
                "steps": run.settings["steps"],
                "train_loss": metrics.train_loss,
                "val_loss": metrics.val_loss,
                "tokens_per_second": metrics.tokens_per_second,
                "started": state.started if state else None,
                "finished": state.finished if state else None,
                "exit_code": state.exit_code if state else None,
                "host": state.host if state else None,
                "heartbeat": state.updated if state else None,
                "alone": state.alone if state else None,
                "message": _message(state) if state else "",
                "log": str(log) if log.exists() else None,
            }
        )
    return rows


def _message(state: State) -> str:
    if state.effective == "stale":
        return f"process {state.runner_pid} on {state.host} is gone; `matrix run` goes on with it"
    return state.message


def find_matrices(root: Path) -> list[Matrix]:
    """The experiments in the folders of `root`, by name. Raises UsageError on a bad matrix file."""
    return [load_matrix(file.parent) for file in sorted(root.glob(f"*/{FILE_NAME}"))]


def summary(matrix: Matrix) -> str:
    """`3 done, 1 failed, 6 not run`."""
    counts = Counter(row["state"] for row in cell_status(matrix))
    never = counts.pop("-", 0)
    parts = [f"{count} {state}" for state, count in sorted(counts.items())]
    return ", ".join([*parts, *([f"{never} not run"] if never else [])])
