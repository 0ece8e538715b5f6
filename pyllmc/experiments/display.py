"""How a running matrix is shown on stderr: a live table on a terminal, else a line an event."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pyllmc.experiments.board import STYLES, Board, Row
from pyllmc.terminal import clock, number

if TYPE_CHECKING:
    import rich.table

_SILENCE_SECONDS = 30.0
_REDRAW_SECONDS = 0.5


class Display(Protocol):
    """What the runner tells whoever watches."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, message: str) -> None:
        """A sentence about the matrix as a whole."""

    def changed(self, row: Row) -> None:
        """The state of a cell changed."""

    def refresh(self) -> None:
        """Called several times a second; reads what the running cells logged."""


def make_display(board: Board) -> Display:
    """A live table if stderr is a terminal, else lines."""
    return LiveTable(board) if sys.stderr.isatty() else Lines(board)


class Lines:
    """One line an event: a cell starts, validates, ends; and one when nothing was heard for long.

    Every line begins with the time since the runner began.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._told: dict[str, int | None] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def say(self, message: str) -> None:
        print(f"[{clock(self._board.elapsed)}] {message}", file=sys.stderr, flush=True)
        self._last = time.monotonic()

    def changed(self, row: Row) -> None:
        board = self._board
        if row.state == "running":
            again = f" (attempt {row.attempt})" if row.attempt > 1 else ""
            self.say(f"{row.name}: started{again}")
            return
        if row.state == "queued":
            self.say(f"{row.name}: queued again")
            return
        ended = [row.state]
        if row.state == "done":
            ended.append(f"val loss {number(row.metrics.val_loss)}")
        elif row.state == "preempted":
            ended.append(f"at step {row.metrics.updates} of {row.steps}")
        elif row.message:
            ended.append(row.message)
        ended.append(f"{clock(row.seconds)} taken")
        waiting = 0 if board.stopping else board.count("queued", "running")
        rest = f"; {waiting} to go" if waiting else ""
        left = f", about {clock(board.left)} left" if waiting and board.left is not None else ""
        self.say(f"{row.name}: {', '.join(ended)}{rest}{left}")

    def refresh(self) -> None:
        quiet = time.monotonic() - self._last > _SILENCE_SECONDS
        for row in self._board.rows.values():
            if row.state != "running":
                continue
            row.metrics.poll()
            validated = row.metrics.val_step is not None and (
                self._told.get(row.name) != row.metrics.val_step
            )
            if validated or quiet:
                self._told[row.name] = row.metrics.val_step
                self.say(_line(row, validated))


def _line(row: Row, validated: bool) -> str:
    metrics = row.metrics
    if validated:
        parts = [f"step {metrics.val_step} of {row.steps}", f"val loss {number(metrics.val_loss)}"]
    else:
        parts = [
            f"step {metrics.updates} of {row.steps}",
            f"train loss {number(metrics.train_loss)}",
        ]
    if metrics.tokens_per_second is not None:
        parts.append(f"{number(metrics.tokens_per_second, ',.0f')} tokens/s")
    if row.left is not None:
        parts.append(f"{clock(row.left)} left")
    return f"{row.name}: {', '.join(parts)}"


class LiveTable:
    """A table of all cells that is redrawn in place."""

    def __init__(self, board: Board) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board = board
        self._drawn = 0.0
        # No thread of its own: the runner forks children, which is not safe beside threads.
        self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.update(self._table(), refresh=True)
        self._live.stop()

    def say(self, message: str) -> None:
        self._live.console.print(message, markup=False, highlight=False)

    def changed(self, row: Row) -> None:
        if row.state in ("failed", "diverged"):
            self.say(f"{row.name}: {row.state}, {row.message}")
        self._drawn = 0.0

    def refresh(self) -> None:
        if time.monotonic() - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = time.monotonic()
        for row in self._board.rows.values():
            if row.state == "running":
                row.metrics.poll()
        self._live.update(self._table(), refresh=True)

    def _table(self) -> rich.table.Table:
        from rich.table import Table
        from rich.text import Text

        board = self._board
        table = Table(box=None, pad_edge=False, caption_justify="left", caption_style="")
        for name in ("cell", "state", "step", "train loss", "val loss", "tokens/s", "left"):
            table.add_column(
                name, justify="left" if name in ("cell", "state") else "right", no_wrap=True
            )
        rows = list(board.rows.values())
        if len(rows) > self._live.console.height - 4:  # too many to redraw: those that move
            rows = [row for row in rows if row.state in ("running", "failed")]
        for row in rows:
            metrics = row.metrics
            running = row.state == "running"
            began = running or not row.to_run or row.seconds is not None
            last = (
                clock(row.left)
                if running
                else ""
                if row.seconds is None
                else (f"took {clock(row.seconds)}")
            )
            table.add_row(
                row.name,
                Text(row.state, style=STYLES.get(row.state, "")),
                f"{metrics.updates:,}/{row.steps:,}" if began else "",
                number(metrics.train_loss) if began else "",
                number(metrics.val_loss) if began else "",
                number(metrics.tokens_per_second, ",.0f") if running else "",
                last,
            )
        left = f", about {clock(board.left)} left" if board.left is not None else ""
        if board.stopping:
            left = ", stopping"
        table.caption = (
            f"{board.count('done', 'diverged')} of {board.to_run} done, "
            f"{board.count('failed')} failed; {clock(board.elapsed)} passed{left}"
        )
        return table
