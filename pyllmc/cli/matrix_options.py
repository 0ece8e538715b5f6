"""What the commands that read a matrix file ask for in the same way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pyllmc.errors import UsageError
from pyllmc.experiments.matrix import FILE_NAME, Matrix, load_matrix
from pyllmc.experiments.overrides import parse_overrides
from pyllmc.sinks.sink import SINKS

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_FOLDER = "runs/00009-banded-fc-comparison"

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
    help="Put logs, checkpoints, cells and model.bin in DIR.  [default: FOLDER]",
)
sinks_offered = click.Choice(SINKS)


def default_folder_told(command: F) -> F:
    """Says in the command's help which FOLDER it takes when none is given."""
    summary, _, rest = inspect.cleandoc(command.__doc__ or "").partition("\n\n")
    command.__doc__ = f"{summary}\n\nFOLDER defaults to {DEFAULT_FOLDER}.\n\n{rest}"
    return command


def folder_argument(command: F) -> F:
    """The experiment's folder."""
    argument = click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
    return argument(default_folder_told(command))


def results_option(flag: str) -> Callable[[F], F]:
    """The folder of results, for commands that read them."""
    return click.option(
        flag,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where `matrix run --out` put its results.  [default: FOLDER]",
    )


def open_matrix(folder: Path, settings: tuple[str, ...], out: Path | None) -> Matrix:
    """The experiment that the options name. Raises UsageError."""
    if folder == Path(DEFAULT_FOLDER) and not (folder / FILE_NAME).is_file():
        raise UsageError(
            f"{folder}, which FOLDER defaults to, holds no {FILE_NAME} here; give an experiment's "
            "folder (`pyllmc matrix list` shows those below runs/)"
        )
    return load_matrix(folder, parse_overrides(settings), out)
