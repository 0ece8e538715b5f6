"""What people at a terminal get to see: times, columns, and the progress of a long step."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

LINE_EVERY_S = 5.0


def say(message: str) -> None:
    """One message to the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


def clock(seconds: float | None) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on; `-` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def text_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Container[str] = ()
) -> str:
    """Rows of texts under their headers; the columns named in `right` are aligned right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = []
    for row in (headers, *rows):
        cells = [
            text.rjust(width) if header in right else text.ljust(width)
            for header, text, width in zip(headers, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: object, form: str = ".4f") -> str:
    """A number in the given form, `-` for anything else."""
    return format(value, form) if isinstance(value, (int, float)) else "-"


class Progress:
    """`with Progress("tokenizing", total) as p: p.update(done)`, in bytes or any other `unit`.

    It is shown on stderr: a bar on a terminal, else a plain line every few seconds. `done` counts
    from the start of the step; `total` may be None when nobody knows it.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "MB") -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._scale = 1e6 if unit == "MB" else 1
        self._next_line = time.monotonic() + LINE_EVERY_S
        self._first: tuple[float, int] | None = None
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, amount="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        # What was there before the first update, as of a download that goes on, took no time here.
        self._first = self._first or (time.monotonic(), done)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, amount=self._amount(done))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            say(f"{self._title}: {self._amount(done)}{self._share(done)}")

    def _share(self, done: int) -> str:
        if not self._total or self._first is None:
            return ""
        start, before = self._first
        left = ""
        if done > before:
            seconds = (time.monotonic() - start) * (self._total - done) / (done - before)
            left = f", about {clock(seconds)} left"
        return f" ({100 * done / self._total:.0f} %{left})"

    def _amount(self, done: int) -> str:
        total = f" of {self._total / self._scale:,.0f}" if self._total else ""
        return f"{done / self._scale:,.0f}{total} {self._unit}"
