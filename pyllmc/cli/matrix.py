"""`pyllmc matrix`: the runs of an experiment."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from pyllmc.cli.group import Group
from pyllmc.cli.matrix_control import cancel, logs
from pyllmc.cli.matrix_options import (
    folder_argument,
    open_matrix,
    out_option,
    results_option,
    set_option,
    sinks_offered,
)
from pyllmc.errors import UsageError
from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.plan import RUN, make_plan
from pyllmc.experiments.runner import (
    Options,
    Outcome,
    job_command,
    run_matrix,
    select_cells,
)
from pyllmc.experiments.script import shell_script
from pyllmc.experiments.status import cell_status, find_matrices, summary
from pyllmc.programs import train_banded_path
from pyllmc.sinks.process import Followers
from pyllmc.sinks.sink import require_installed
from pyllmc.terminal import clock, number, text_table


@click.group(cls=Group)
def matrix() -> None:
    """Run, watch and stop the runs of an experiment.

    An experiment is a folder with a matrix.toml; a cell is one of its runs under one seed.
    """


@click.command()
@folder_argument
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Only cells whose name matches, for example 'fc1_*'. Repeatable.",
)
@set_option
@out_option
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Cells that run at a time.  [default: 1, or one a slot of --gpus]",
)
@click.option(
    "--threads-per-job",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of each cell.  [default: cores / cells at a time]",
)
@click.option(
    "--gpus",
    metavar="auto|0,2",
    help="Run each cell on a GPU of its own: all GPUs, or those with these numbers.",
)
@click.option(
    "--jobs-per-gpu", type=click.IntRange(1), default=1, help="Cells at a time on each GPU."
)
@click.option("--retry-failed", is_flag=True, help="Run failed cells again.")
@click.option(
    "--rerun-changed",
    is_flag=True,
    help="Run anew what has another configuration now, or was begun by another build.",
)
@click.option("--fail-fast", is_flag=True, help="Stop all cells when one fails.")
@click.option(
    "--engine",
    type=click.Choice(["local", "slurm", "dask"]),
    default="local",
    help="What runs the cells: this machine, Slurm jobs, or the workers of a Dask cluster.",
)
@click.option("--scheduler", metavar="ADDRESS", help="The scheduler of --engine dask.")
@click.option(
    "--slurm-option",
    "slurm_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of sbatch for --engine slurm: partition=gpu, time=120 (minutes). Repeatable.",
)
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    type=sinks_offered,
    help="Write the runs for this tracker while they train. Repeatable.",
)
@click.option(
    "--sink-out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Put the trackers' files in DIR, a folder each.  [default: sinks in --out]",
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
    jobs: int | None,
    threads_per_job: int | None,
    gpus: str | None,
    jobs_per_gpu: int,
    retry_failed: bool,
    rerun_changed: bool,
    fail_fast: bool,
    engine: str,
    scheduler: str | None,
    slurm_options: tuple[str, ...],
    sinks: tuple[str, ...],
    sink_out: Path | None,
    dry_run: bool,
    program: str | None,
) -> None:
    """Run what is not finished yet; a run that fails stops no other.

    Finished cells (a cell is a run under one seed) are skipped. Cells that were stopped, or whose
    runner was killed, go on from their last checkpoint. Failed ones are skipped unless
    --retry-failed is given, and a cell whose configuration has changed is refused with the
    difference. Missing initial weights and built-in data are made first. Ctrl-C lets running cells
    finish their step and save; a second one ends them. Two runners on one folder share its cells.

    \b
      pyllmc matrix run runs/demo
      pyllmc matrix run --dry-run
      pyllmc matrix run --only 'fc2_*' --set steps=60 --out try
      pyllmc matrix run --gpus auto
      pyllmc matrix run --engine slurm --slurm-option partition=gpu --slurm-option time=120
      pyllmc matrix run --engine dask --scheduler tcp://10.0.0.1:8786
      pyllmc matrix run --sink tensorboard --sink mlflow

    With Slurm and Dask every machine must see the same folders under the same names. Slurm needs
    `pip install 'pyllmc[slurm]'`, Dask `pip install 'pyllmc[cluster]'`.

    Each --sink is a process of its own beside the runs that reads their logs every two seconds
    (`pyllmc export runs --follow`; its --help says how a resumed run goes on in each tracker). A
    tracker that fails is reported in one sentence and stops no run.

    \b
    Exit codes:
      0    all done (a diverged run is a result and is named)
      1    some failed
      2    wrong usage, or results that would be replaced
      4    a missing or bad input
      5    a GPU that was asked for is not there
      75   none failed, but some are not finished (stopped by SIGTERM, cancelled, or being
           run elsewhere): the same command goes on
      130  stopped by Ctrl-C: the same command goes on
    """
    experiment = open_matrix(folder, settings, out)
    cells = select_cells(experiment, only)
    options = Options(
        program or str(train_banded_path()),
        engine=engine,
        jobs=jobs,
        threads=threads_per_job,
        gpus=gpus,
        jobs_per_gpu=jobs_per_gpu,
        scheduler=scheduler,
        slurm=_slurm_options(engine, slurm_options),
        rerun_changed=rerun_changed,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
    )
    if (engine == "dask") != (scheduler is not None):
        raise UsageError(
            "--engine dask and --scheduler ADDRESS belong together: give both or neither"
        )
    if engine != "local" and jobs is not None:
        raise UsageError(
            "--jobs is for --engine local; the others run as many as there is room for"
        )
    beside = _followers(experiment, folder, settings, sinks, sink_out)
    if dry_run:
        _print_plan(experiment, cells, options)
        return
    outcome = run_matrix(experiment, cells, options, beside=beside)
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


def _followers(
    experiment: Matrix,
    folder: Path,
    settings: tuple[str, ...],
    sinks: tuple[str, ...],
    out: Path | None,
) -> Followers | None:
    """What writes the runs into trackers. Raises UsageError for one whose package is missing."""
    if not sinks:
        if out is not None:
            raise UsageError("--sink-out is where --sink writes: give --sink too")
        return None
    require_installed(sinks, "--sink")
    words = [str(folder), *(word for text in settings for word in ("--set", text))]
    words += ["--results", str(experiment.out)]
    return Followers(sinks, out or experiment.out / "sinks", words)


def _slurm_options(engine: str, words: tuple[str, ...]) -> dict[str, str]:
    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or engine != "slurm":
            raise UsageError(
                f"--slurm-option {word!r} is not KEY=VALUE, for example partition=gpu"
                if engine == "slurm"
                else "--slurm-option needs --engine slurm"
            )
        options[key] = value
    return options


def _tell(
    experiment: Matrix, outcome: Outcome, out: Path | None, settings: tuple[str, ...]
) -> None:
    for row in outcome.board.rows.values():
        if row.state in ("failed", "diverged") and row.to_run:
            folder = experiment.out / "cells" / row.name / "attempts" / str(row.attempt)
            click.echo(f"{row.name} {row.state}: {row.message} (see {folder}/stderr.txt)", err=True)
        elif row.state == "failed" or (row.state == "-" and not row.to_run):
            click.echo(f"{row.name} skipped: {row.message}", err=True)
    if outcome.stopped is not None or outcome.exit_code == 75:
        click.echo("not finished; the same command goes on with what is left", err=True)
    elif outcome.exit_code == 0:
        words = ["pyllmc", "report", str(experiment.folder)]
        words += [] if out is None else ["--out", str(out)]
        for setting in settings:
            words += ["--set", setting]
        click.echo(f"next: {shlex.join(words)}", err=True)


def _print_plan(experiment: Matrix, cells: list[Cell], options: Options) -> None:
    steps = make_plan(
        experiment,
        cells,
        rerun_changed=options.rerun_changed,
        retry_failed=options.retry_failed,
        program=options.program,
    )
    rows = [(step.cell.name, step.state, step.action, step.reason) for step in steps]
    head, *lines = text_table(("cell", "state", "action", "reason"), rows).split("\n")
    click.echo(head)
    for line, step in zip(lines, steps, strict=True):
        click.echo(line)
        click.echo(f"    {shlex.join(job_command(experiment, step.cell, options))}")
    to_run = [step.cell.name for step in steps if step.action == RUN]
    if options.engine == "slurm" and to_run:
        from pyllmc.experiments.slurm import sbatch_text

        click.echo(f"\nsbatch file of {to_run[0]}; the others differ in job-name:\n")
        click.echo(sbatch_text(experiment.out, to_run[0], options), nl=False)


@click.command()
@folder_argument
@set_option
@out_option
def script(folder: Path, settings: tuple[str, ...], out: Path | None) -> None:
    """Print the same commands as a plain shell script.

    It runs one cell after the other, remembers nothing and skips nothing. TRAIN, PYLLMC and OUT in
    its environment name the trainer, this program and the folder for results.

    \b
      pyllmc matrix script runs/demo > run_demo.sh
    """
    click.echo(shell_script(open_matrix(folder, settings, out)), nl=False)


@click.command()
@folder_argument
@set_option
@results_option("--out")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def status(folder: Path, settings: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Show every cell's state, step and losses.

    The states are queued, running, preempted (stopped, to go on later), done, failed, diverged,
    stale (its runner is gone and did not say how it ended) and - (never run).
    """
    experiment = open_matrix(folder, settings, out)
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


@click.command("list")
@click.argument("root", type=click.Path(path_type=Path), default="runs")
def list_(root: Path) -> None:
    """List the experiments in the folders of ROOT and how far they are.

    ROOT defaults to runs.
    """
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


for command in (run, status, logs, cancel, script, list_):
    matrix.add_command(command)
