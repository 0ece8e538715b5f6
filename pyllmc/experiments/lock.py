"""One runner a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pyllmc.errors import UsageError


@contextlib.contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Owns the cells below `out`; the system lets go of the lock however the process ends.

    Raises UsageError when another runner owns them.
    """
    path = out / "cells" / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read().strip() or "another process"
            raise UsageError(
                f"{out} is being run by {owner}; wait for it, or use another folder with --out"
            ) from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield
