"""`pyllmc matrix logs` and `cancel`: runs that are on their way, seen and stopped from outside."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.matrix_options import (
    DEFAULT_FOLDER,
    default_folder_told,
    open_matrix,
    results_option,
    set_option,
)
from pyllmc.errors import UsageError
from pyllmc.experiments.follow import output
from pyllmc.experiments.matrix import FILE_NAME, Cell, Matrix
from pyllmc.experiments.state import read_state
from pyllmc.experiments.stop import request_cancel


def _cells(experiment: Matrix, names: tuple[str, ...]) -> list[Cell]:
    """The cells that names (of cells, or of runs) stand for, all when there are none."""
    cells = list(experiment.cells())
    for name in names:
        if not any(name in (cell.name, cell.run.name) for cell in cells):
            known = ", ".join(cell.name for cell in cells)
            raise UsageError(f"{experiment.folder} has no cell {name!r}; the cells are {known}")
    return [cell for cell in cells if not names or {cell.name, cell.run.name} & {*names}]


def _folder_and_names(words: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """The experiment's folder, if the first word is one, and the names after it."""
    if words and (Path(words[0]) / FILE_NAME).is_file():
        return Path(words[0]), words[1:]
    return Path(DEFAULT_FOLDER), words


@click.command()
@click.argument("words", nargs=-1, metavar="[FOLDER] RUN")
@set_option
@results_option("--out")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
@default_folder_told
def logs(words: tuple[str, ...], settings: tuple[str, ...], out: Path | None, follow: bool) -> None:
    """Print what a run's program printed in its newest attempt.

    \b
      pyllmc matrix logs runs/demo fc1_bw512 -f
    """
    folder, names = _folder_and_names(words)
    experiment = open_matrix(folder, settings, out)
    cells = _cells(experiment, names)
    if not names or len(cells) != 1:
        known = ", ".join(cell.name for cell in cells)
        raise UsageError(f"logs are of one cell: name one of {known}")
    for stream, piece in output(experiment.cell_dir(cells[0].run, cells[0].seed), follow=follow):
        click.echo(piece, nl=False, err=stream == "stderr")


@click.command()
@click.argument("words", nargs=-1, metavar="[FOLDER] [RUN]...")
@set_option
@results_option("--out")
@click.option("--now", is_flag=True, help="End them at once instead of after their step.")
@default_folder_told
def cancel(words: tuple[str, ...], settings: tuple[str, ...], out: Path | None, now: bool) -> None:
    """Stop running and queued runs: all of an experiment, or those named.

    A running one finishes its step and saves, on whatever machine it runs, within seconds; one that
    waits does not start. `matrix run` goes on with them.

    \b
      pyllmc matrix cancel runs/demo
      pyllmc matrix cancel runs/demo fc1_bw512
    """
    folder, names = _folder_and_names(words)
    experiment = open_matrix(folder, settings, out)
    for cell in _cells(experiment, names):
        cell_dir = experiment.cell_dir(cell.run, cell.seed)
        state = read_state(cell_dir)
        if state is None or state.effective not in ("running", "queued"):
            if names:
                click.echo(f"{cell.name}: {state.effective if state else 'never run'}", err=True)
            continue
        request_cancel(cell_dir, state.attempt + (state.state == "queued"), force=now)
        click.echo(f"{cell.name}: asked to stop", err=True)
