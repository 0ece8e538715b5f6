"""What a tracker's folder holds already, so that nothing is written into it twice."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pyllmc.errors import FormatError, UsageError
from pyllmc.files import atomic_write, read_json_object

_FILE, _LOCK = ".pyllmc.json", ".pyllmc.lock"


@dataclass
class Sent:
    """What the tracker has of a cell.

    `key` opens its run there; `beginning` is the attempt that began its log, `steps` the last step
    written of each value, `status` the state that the tracker was told last.
    """

    key: str
    beginning: int
    steps: dict[str, int] = field(default_factory=dict)
    status: str | None = None


class Memory:
    """The cells of one matrix in one tracker's folder, kept in a file of it."""

    def __init__(self, path: Path, told: dict[str, str], sent: dict[str, Sent]) -> None:
        self._path = path
        self._told = told
        self.sent = sent

    def save(self) -> None:
        """Replaces the file. Raises WriteError."""
        cells = {name: asdict(sent) for name, sent in self.sent.items()}
        table = {"schema": 1, **self._told, "cells": cells}
        atomic_write(self._path, json.dumps(table, indent=1) + "\n")


@contextlib.contextmanager
def memory_of(out: Path, to: str, results: Path) -> Iterator[Memory]:
    """The memory of tracker `to` in `out`, which is made, for a matrix with these results; held
    against a second writer.

    Raises UsageError when `out` holds anything else, or another process writes to it.
    """
    told = {"tracker": to, "results": str(results.resolve())}
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give a folder for the tracker's files")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there - {_LOCK} and _FILE not in there:
        raise UsageError(f"{out} is not empty and no export of pyllmc: give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    with open(out / _LOCK, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process writes to {out} already: end it, or give another folder"
            ) from None
        table = read_json_object(out / _FILE, "give a new folder")
        if table is None:
            memory = Memory(out / _FILE, told, {})
            memory.save()
        else:
            memory = Memory(out / _FILE, told, _read(out / _FILE, table, told))
        yield memory


def _read(path: Path, table: dict[str, object], told: dict[str, str]) -> dict[str, Sent]:
    for key, value in told.items():
        if table.get(key) != value:
            raise UsageError(
                f"{path.parent} holds runs for {table.get('tracker')} of {table.get('results')}, "
                f"not for {told['tracker']} of {told['results']}: give another folder"
            )
    try:
        cells = table["cells"]
        assert isinstance(cells, dict)
        return {name: Sent(**sent) for name, sent in cells.items()}
    except (AssertionError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path} does not say what the folder holds: give a new folder"
        ) from error
