"""What the commands of `pyllmc matrix` ask for in the same way."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.experiments.matrix import Matrix, load_matrix
from pyllmc.experiments.overrides import parse_overrides
from pyllmc.sinks.sink import SINKS

DEFAULT_FOLDER = "runs/00009-banded-fc-comparison"

folder_argument = click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the matrix file: steps=60, data.train=FILE, "
    "model.channels=64, seeds=[1,2]. Repeatable.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Put logs, checkpoints, cells and model.bin there.  [default: FOLDER]",
)
sinks_offered = click.Choice(SINKS)


def load_experiment(folder: Path, settings: tuple[str, ...], out: Path | None) -> Matrix:
    """The experiment that the options name. Raises UsageError."""
    return load_matrix(folder, parse_overrides(settings), out)
