"""What a cell's program printed, now and as it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pyllmc.errors import FormatError
from pyllmc.experiments.state import read_state

_POLL_SECONDS = 0.2


def output(cell_dir: Path, *, follow: bool = False) -> Iterator[tuple[str, bytes]]:
    """Pieces of the newest attempt's stdout and stderr with the name of the stream.

    `follow` goes on, over later attempts too, until the cell neither runs nor waits to be run.
    Raises FormatError when the cell has never been started.
    """
    number, offsets = 0, {"stdout": 0, "stderr": 0}
    while True:
        state = read_state(cell_dir)
        active = state is not None and state.effective in ("running", "queued")
        if state is not None and state.attempt != number:
            number, offsets = state.attempt, dict.fromkeys(offsets, 0)
        if number == 0 and not (follow and active):
            raise FormatError(f"{cell_dir} holds no attempt: the cell has not been started yet")
        for name in offsets:
            piece = _read(cell_dir / "attempts" / str(number) / f"{name}.txt", offsets[name])
            offsets[name] += len(piece)
            if piece:
                yield name, piece
        if not (follow and active):
            return
        time.sleep(_POLL_SECONDS)


def _read(path: Path, offset: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read()
    except FileNotFoundError:
        return b""
