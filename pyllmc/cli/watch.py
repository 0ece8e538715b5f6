"""`pyllmc watch`: a running matrix on the terminal."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from pyllmc.cli.matrix_options import folder_argument, open_matrix, results_option, set_option

if TYPE_CHECKING:
    from rich.console import Console

    from pyllmc.cli.watch_frame import Watch

_REDRAW_SECONDS = 1.0
_PIPE_WIDTH = 120


@click.command()
@folder_argument
@set_option
@results_option("--out")
@click.option("--once", is_flag=True, help="Print one frame and exit.")
def watch(folder: Path, settings: tuple[str, ...], out: Path | None, once: bool) -> None:
    """Watch a running experiment on the terminal.

    Shows states, steps, loss curves, speed and the time left, read from the cells' own files,
    whoever runs them and on whichever machine. q or Ctrl-C leaves; the runs are not affected, and
    the same command shows them again. Give the --set and --out of `matrix run`, if it had any.
    Where stdout is no terminal one frame is printed, as with --once.

    \b
      pyllmc watch runs/demo
      pyllmc watch runs/demo --once
    """
    from rich.console import Console

    from pyllmc.cli.watch_frame import Watch

    seen = Watch(open_matrix(folder, settings, out))
    live = sys.stdout.isatty() and not once
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    if not live:
        seen.refresh()
        console.print(seen.frame(console.width))
        return
    _follow(seen, console)
    words = ["pyllmc", "watch", str(folder), *(["--out", str(out)] if out else [])]
    for setting in settings:
        words += ["--set", setting]
    click.echo(f"left; the runs go on, and {shlex.join(words)} shows them again", err=True)


def _follow(seen: Watch, console: Console) -> None:
    """Redraws until q, Ctrl-C or SIGTERM."""
    from rich.live import Live

    with (
        suppress(KeyboardInterrupt),
        _signals_as_ctrl_c(),
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            seen.refresh()
            frame = seen.frame(console.width, console.height, footer="q leaves; the runs go on")
            live.update(frame, refresh=True)
            if pressed() in ("q", "Q"):
                return


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that waits for a key for up to _REDRAW_SECONDS; "" when there was none."""
    if not sys.stdin.isatty():
        yield _wait
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> str:
        ready, _, _ = select.select([terminal], [], [], _REDRAW_SECONDS)
        return os.read(terminal, 1).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait() -> str:
    time.sleep(_REDRAW_SECONDS)
    return ""


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM and a closed window leave as Ctrl-C does, so that the terminal is put right."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
