"""`pyllmc export runs`: an experiment's runs for a tracker."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyllmc.cli.matrix_options import (
    folder_argument,
    open_matrix,
    results_option,
    set_option,
    sinks_offered,
)
from pyllmc.errors import FormatError

if TYPE_CHECKING:
    from pyllmc.experiments.matrix import Matrix

_LOOK_SECONDS = 2.0
_WAIT_SECONDS = 0.1
_REST = 19  # times as long as it worked, so that it takes a twentieth of a processor at most


@click.command()
@folder_argument
@set_option
@click.option("--to", type=sinks_offered, required=True, help="The tracker.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A folder for the tracker's files, new or of an earlier export.",
)
@results_option("--results")
@click.option("--follow", is_flag=True, help="Go on with what is logged until Ctrl-C or SIGTERM.")
@click.pass_context
def runs(
    ctx: click.Context,
    folder: Path,
    settings: tuple[str, ...],
    to: str,
    out: Path,
    results: Path | None,
    follow: bool,
) -> None:
    """Write an experiment's runs for TensorBoard, MLflow, wandb or trackio.

    Losses, learning rates, gradient norms and speed by step, with each run's configuration, into
    local files; nothing is sent anywhere. The tracker's package must be installed, for example by
    pip install 'pyllmc[tensorboard]'.

    \b
      pyllmc export runs runs/demo --to tensorboard --out tb
      pyllmc export runs runs/demo --to mlflow --out mlruns --follow

    The same command again adds only what is new, and --follow does so every two seconds (with very
    long logs less often); `pyllmc matrix run --sink` starts it beside the runs. A resumed run goes
    on as the same run of the tracker: in another event file of its folder (TensorBoard), under its
    id (MLflow), under its name (trackio). wandb cannot go on offline: it gets one folder a piece
    under one id, which `wandb sync` joins. A run that was begun anew becomes a second run,
    <cell>_attempt<N>. If this process is killed (SIGKILL), the points of its last seconds may be
    written twice.

    Exit codes: 1 a run could not be written, 2 the tracker is not installed or DIR holds something
    else or is in use, 4 there is no log to export.
    """
    from pyllmc.sinks.runs import log_file
    from pyllmc.sinks.sink import look

    matrix = open_matrix(folder, settings, results)
    if not follow and not any(log_file(matrix, cell) for cell in matrix.cells()):
        raise FormatError(
            f"{matrix.out} holds no log of {folder}'s runs: run `pyllmc matrix run {folder}` "
            "first, or name what it was given by --set, and by --out with --results"
        )
    failed = _export(matrix, to, out, follow)
    click.echo(out)
    click.echo(f"look at it with: {look(to, out)}", err=True)
    ctx.exit(1 if failed else 0)


def _export(matrix: Matrix, to: str, out: Path, follow: bool) -> bool:
    """Whether a run could not be written."""
    from pyllmc.experiments.stop import StopRequests
    from pyllmc.sinks.follow import Follower
    from pyllmc.sinks.memory import memory_of
    from pyllmc.sinks.process import WARNING
    from pyllmc.sinks.sink import open_sink

    def say(sentence: str) -> None:
        click.echo(sentence, err=True)

    with StopRequests() as stop, memory_of(out, to, matrix.out) as memory:
        # A `matrix run` that ended while this process was starting has sent one already.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        follower = Follower(
            matrix, open_sink(to, out), memory, say, lambda sentence: say(WARNING + sentence)
        )
        try:
            again = _timed(follower.look)
            while follow and not stop.count:
                time.sleep(_WAIT_SECONDS)
                if stop.count or time.monotonic() > again:
                    again = _timed(follower.look)
        finally:
            follower.close()
    return bool(follower.failed)


def _timed(look: Callable[[], None]) -> float:
    """Looks, and says when to do so again: long logs must not cost the runs their processors."""
    began = time.monotonic()
    look()
    ended = time.monotonic()
    return ended + max(_LOOK_SECONDS, _REST * (ended - began))
