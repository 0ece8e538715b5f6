"""Times, columns, and the progress of a long step where stderr is no terminal."""

from __future__ import annotations

import pytest

from pyllmc import terminal
from pyllmc.terminal import Progress, clock, text_table


def test_lines_guess_the_rest_from_what_was_done_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    with Progress("reading", 1000, "files") as shown:
        shown.update(500)  # there already
        now += 10
        shown.update(600)
        now += 1
        shown.update(610)
        now += 80
        shown.update(1000)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 600 of 1,000 files (60 %, about 0:40 left)",
        "reading: 1,000 of 1,000 files (100 %, about 0:00 left)",
    ]


def test_lines_without_a_total_only_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    with Progress("reading") as shown:
        shown.update(0)
        now += 10
        shown.update(2_000_000)
    assert capsys.readouterr().err == "reading: 2 MB\n"


def test_clock_and_columns() -> None:
    assert [clock(seconds) for seconds in (None, 0.4, 59.6, 3599, 3661)] == [
        "-", "0:00", "1:00", "59:59", "1:01:01"]  # fmt: skip
    assert text_table(("a", "n"), [("x", "1"), ("yy", "10")], right=("n",)).splitlines() == [
        "a    n", "x    1", "yy  10"]  # fmt: skip
