"""`pyllmc matrix`: the runs of an experiment."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from pyllmc.errors import UsageError
from pyllmc.experiments.matrix import Cell, Matrix, load_matrix
from pyllmc.experiments.overrides import parse_overrides
from pyllmc.experiments.plan import make_plan
from pyllmc.experiments.runner import (
    Options,
    Outcome,
    job_command,
    run_matrix,
    select_cells,
)
from pyllmc.experiments.script import shell_script
from pyllmc.experiments.status import cell_status, find_matrices, summary
from pyllmc.experiments.text_table import clock, number, text_table
from pyllmc.programs import train_banded_path

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


@click.group()
def matrix() -> None:
    """Run every run of an experiment, skipping what is finished.

    An experiment is a folder with a matrix.toml; a cell is one of its runs under one seed.
    """


def _load(folder: Path, settings: tuple[str, ...], out: Path | None) -> Matrix:
    return load_matrix(folder, parse_overrides(settings), out)


@matrix.command()
@folder_argument
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Only cells whose name matches, for example 'fc1_*'. Repeatable.",
)
@set_option
@out_option
@click.option("--jobs", type=click.IntRange(1), default=1, help="Cells that run at a time.")
@click.option(
    "--threads-per-job",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of each cell.  [default: cores / jobs]",
)
@click.option(
    "--rerun-changed", is_flag=True, help="Replace results whose configuration has changed."
)
@click.option("--dry-run", is_flag=True, help="Print what would run and why, and run nothing.")
@click.option(
    "--program",
    metavar="PATH",
    show_envvar=True,
    help="The trainer to start.  [default: the package's train_banded]",
)
@click.pass_context
def run(
    ctx: click.Context,
    folder: Path,
    only: tuple[str, ...],
    settings: tuple[str, ...],
    out: Path | None,
    jobs: int,
    threads_per_job: int | None,
    rerun_changed: bool,
    dry_run: bool,
    program: str | None,
) -> None:
    """Run what is not finished yet; a run that fails stops no other.

    Finished cells are skipped if their configuration is still the same, and refused with the
    difference if it is not. Failed and interrupted cells run again. Missing initial weights and
    built-in data are made first. Ctrl-C lets running cells finish their step and save; a second
    one ends them.

    \b
      pyllmc matrix run runs/demo
      pyllmc matrix run --dry-run
      pyllmc matrix run --only 'fc2_*' --set steps=60 --out try

    Exit codes: 0 all done (a diverged run is a result and is named), 1 some failed, 2 wrong usage
    or results that would be replaced, 4 a missing or bad input, 130 interrupted.
    """
    experiment = _load(folder, settings, out)
    cells = select_cells(experiment, only)
    options = Options(program or str(train_banded_path()), jobs, threads_per_job, rerun_changed)
    if dry_run:
        _print_plan(experiment, cells, options)
        return
    outcome = run_matrix(experiment, cells, options)
    rows = [
        (
            row.name,
            row.state,
            f"{row.metrics.updates:,}",
            number(row.metrics.val_loss),
            number(row.metrics.tokens_per_second, ",.0f"),
            clock(row.seconds) if row.to_run else "before",
        )
        for row in outcome.board.rows.values()
    ]
    click.echo(
        text_table(
            ("cell", "state", "steps", "val loss", "tokens/s", "time"),
            rows,
            right=("steps", "val loss", "tokens/s", "time"),
        )
    )
    _tell(experiment, outcome, out, settings)
    ctx.exit(outcome.exit_code)


def _tell(
    experiment: Matrix, outcome: Outcome, out: Path | None, settings: tuple[str, ...]
) -> None:
    for row in outcome.board.rows.values():
        if row.state in ("failed", "diverged") and row.to_run:
            folder = experiment.out / "cells" / row.name / "attempts" / str(row.attempt)
            click.echo(f"{row.name} {row.state}: {row.message} (see {folder}/stderr.txt)", err=True)
    if outcome.interrupted:
        click.echo("interrupted; the same command goes on with what is not finished", err=True)
    elif outcome.exit_code == 0:
        words = ["pyllmc", "report", str(experiment.folder)]
        words += [] if out is None else ["--out", str(out)]
        for setting in settings:
            words += ["--set", setting]
        click.echo(f"next: {shlex.join(words)}", err=True)


def _print_plan(experiment: Matrix, cells: list[Cell], options: Options) -> None:
    steps = make_plan(experiment, cells, rerun_changed=options.rerun_changed)
    rows = [(step.cell.name, step.state, step.action, step.reason) for step in steps]
    head, *lines = text_table(("cell", "state", "action", "reason"), rows).split("\n")
    click.echo(head)
    for line, step in zip(lines, steps, strict=True):
        click.echo(line)
        click.echo(f"    {shlex.join(job_command(experiment, step.cell, options))}")


@matrix.command()
@folder_argument
@set_option
@out_option
def script(folder: Path, settings: tuple[str, ...], out: Path | None) -> None:
    """Print a plain shell script with the same commands, one after the other.

    It remembers nothing and skips nothing. TRAIN, PYLLMC and OUT in its environment name the
    trainer, this program and the folder for results.

    \b
      pyllmc matrix script runs/demo > run_demo.sh
    """
    click.echo(shell_script(_load(folder, settings, out)), nl=False)


@matrix.command()
@folder_argument
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def status(folder: Path, out: Path | None, as_json: bool) -> None:
    """Show every cell's state, step and losses.

    The states are queued, running, done, failed, diverged, interrupted, stale (its process is gone
    and left no word) and - (never run).
    """
    experiment = load_matrix(folder, out=out)
    cells = cell_status(experiment)
    if as_json:
        click.echo(
            json.dumps(
                {"schema": 1, "folder": str(folder), "out": str(experiment.out), "cells": cells},
                indent=2,
            )
        )
        return
    rows = [
        (
            row["cell"],
            row["state"],
            f"{row['step']:,}/{row['steps']:,}",
            number(row["train_loss"]),
            number(row["val_loss"]),
            str(row["attempt"]),
            row["message"],
        )
        for row in cells
    ]
    headers = ("cell", "state", "step", "train loss", "val loss", "attempt", "message")
    click.echo(text_table(headers, rows, right=headers[2:6]))


@matrix.command("list")
@click.argument("root", type=click.Path(path_type=Path), default="runs")
def list_(root: Path) -> None:
    """List the experiments in the folders of ROOT and how far they are."""
    matrices = find_matrices(root)
    if not matrices:
        raise UsageError(
            f"no folder in {root} holds a matrix.toml; name the folder that holds the experiments"
        )
    rows = [
        (str(one.folder), str(sum(1 for _ in one.cells())), summary(one), one.title)
        for one in matrices
    ]
    click.echo(text_table(("folder", "cells", "state", "title"), rows, right=("cells",)))
