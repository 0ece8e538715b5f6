"""`pyllmc export runs`: an experiment's runs for a tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyllmc.cli.matrix_options import folder_argument, set_option
from pyllmc.errors import FormatError, UsageError

if TYPE_CHECKING:
    from pyllmc.sinks.runs import RunLog

_SINKS = ("tensorboard", "mlflow", "wandb", "trackio")


@click.command()
@folder_argument
@set_option
@click.option("--to", type=click.Choice(_SINKS), required=True, help="The tracker.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A new folder for the tracker's files.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where `matrix run --out` put its results.  [default: FOLDER]",
)
def runs(folder: Path, settings: tuple[str, ...], to: str, out: Path, results: Path | None) -> None:
    """Write an experiment's runs for TensorBoard, MLflow, wandb or trackio.

    Losses, learning rates, gradient norms and speed by step, with each run's configuration, into
    local files; nothing is sent anywhere. The tracker's package must be installed, for example by
    pip install 'pyllmc[tensorboard]'.

    \b
      pyllmc export runs runs/demo --to tensorboard --out tb
      pyllmc export runs runs/demo --to mlflow --out mlruns

    Exit codes: 2 the tracker is not installed or DIR is in use, 4 there is no log to export.
    """
    from pyllmc.experiments.matrix import load_matrix
    from pyllmc.experiments.overrides import parse_overrides
    from pyllmc.sinks.runs import load_runs

    matrix = load_matrix(folder, parse_overrides(settings), results)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; a second export beside a first would show every run "
                         "twice: give a new folder, or remove it")  # fmt: skip
    exported: list[str] = []
    module = import_module(f"pyllmc.sinks.{to if to in _SINKS[:2] else 'wandb_shaped'}")
    write = module.write if to in _SINKS[:2] else partial(module.write, to)
    look = module.LOOK if isinstance(module.LOOK, str) else module.LOOK[to]
    try:
        write(_told(load_runs(matrix), exported), out)
    except ImportError as error:
        raise UsageError(
            f"--to {to} needs {error.name}, which is not installed: pip install 'pyllmc[{to}]'"
        ) from error
    if not exported:
        raise FormatError(
            f"{matrix.out} holds no log of {folder}'s runs: run `pyllmc matrix run {folder}` first"
        )
    click.echo(out)
    click.echo(f"look at it with: {look.format(out=out)}", err=True)


def _told(found: Iterable[RunLog], exported: list[str]) -> Iterator[RunLog]:
    for run in found:
        click.echo(f"{run.name}: {len(run.points):,} steps", err=True)
        exported.append(run.name)
        yield run
