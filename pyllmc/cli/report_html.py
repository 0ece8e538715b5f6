"""Reads what report.html shows beyond the README: records, speed, memory and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyllmc.errors import PyllmcError
from pyllmc.experiments.matrix import Cell as MatrixCell
from pyllmc.experiments.matrix import Matrix

if TYPE_CHECKING:
    from pyllmc.report.html.inputs import Evidence, Weights
    from pyllmc.report.inputs import Experiment

_MATRICES = {"fc1": "fcw", "fc2": "fcprojw"}


def write_page(matrix: Matrix, experiment: Experiment, logs: Path | None, readme: Path) -> None:
    """Writes report.html beside the README, or says on stderr why there is none."""
    try:
        from pyllmc.report.html.write import FILE_NAME, write_html

        write_html(experiment, load_evidence(matrix, experiment, logs), readme)
    except ImportError as error:
        click.echo(
            f"report.html was not written: {error.name} is not installed "
            "(pip install 'pyllmc[report]')",
            err=True,
        )
        return
    click.echo(f"{FILE_NAME} beside it opens in any browser, offline", err=True)


def load_evidence(matrix: Matrix, experiment: Experiment, logs: Path | None = None) -> Evidence:
    """Speed, memory, records and weights of the matrix's cells; `logs` as in load_experiment.

    Records and weights stay away with `logs`: they are about other logs. A checkpoint that cannot
    be read is named with the reason. Raises FormatError for a spoiled record.
    """
    from pyllmc.experiments.state import read_record
    from pyllmc.report.html.inputs import Cell, Evidence

    speeds = _speeds(experiment)
    memory = {(t.arm, t.seed): t.settings.get("memory_bytes") for t in experiment.trials}
    cells = []
    for cell in matrix.cells():
        key = (cell.run.name, cell.seed)
        folder = matrix.cell_dir(cell.run, cell.seed)
        here = logs is None
        cells.append(
            Cell(
                *key,
                speeds.get(key),
                memory.get(key),
                (read_record(folder / "config.json") if here else None) or {},
                state := (read_record(folder / "state.json") if here else None) or {},
                _earlier(folder, int(state.get("attempt") or 0)),
            )
        )
    weights: dict[str, Weights] = {}
    for cell in matrix.cells() if logs is None else ():
        if cell.run.name not in weights and (found := _weights(matrix, cell)) is not None:
            weights[cell.run.name] = found
    names = [run.name for run in matrix.runs if run.name in weights]
    return Evidence(tuple(cells), tuple(weights[name] for name in names))


def _earlier(folder: Path, attempt: int) -> tuple[dict[str, Any], ...]:
    """How the attempts before the last one ended."""
    from pyllmc.experiments.state import read_attempt

    found = (read_attempt(folder, n, "state.json") for n in range(1, attempt))
    return tuple(state for state in found if state is not None)


def _speeds(experiment: Experiment) -> dict[tuple[str, int | None], float]:
    """Median tokens a second of every cell whose .jsonl has them."""
    from pyllmc.report.outcomes import cell_key

    rows = experiment.full_losses.dropna(subset=["tokens_per_second"])
    return {
        cell_key(run, seed): float(values.median())
        for (run, seed), values in rows.groupby(["run", "seed"], observed=True, dropna=False)[
            "tokens_per_second"
        ]
    }


def _weights(matrix: Matrix, cell: MatrixCell) -> Weights | None:
    from pyllmc import _core
    from pyllmc.report.html.blocks import weight_map
    from pyllmc.report.html.inputs import Weights

    path = matrix.checkpoint_path(cell.run, cell.seed)
    if not path.is_file():
        return None
    try:
        header, tensors = _core.read_model(str(path))
    except PyllmcError as error:
        problem = str(error).replace(str(path), path.name)
        return Weights(cell.run.name, cell.seed, path.name, problem=problem)
    maps = []
    for layer in range(header["num_layers"]):
        for name, tensor in _MATRICES.items():
            weight = tensors[tensor][layer]
            if header["mlp_rank"]:  # two factors: what they make together
                weight = weight @ tensors[tensor.removesuffix("w") + "inw"][layer]
            maps.append(weight_map(name, layer, weight))
    return Weights(cell.run.name, cell.seed, path.name, tuple(maps))
