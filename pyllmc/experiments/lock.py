"""Locks that the system takes back however a process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file `path` inside the block; waits for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def machine_file(name: str) -> int:
    """Descriptor of a lock file that all users and matrices of this machine share.

    PYLLMC_LOCKS names another folder than the one below the system's temporary folder.
    """
    folder = Path(os.environ.get("PYLLMC_LOCKS") or f"{tempfile.gettempdir()}/pyllmc-locks")
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    path = folder / name
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        os.fchmod(descriptor, 0o666)
        return descriptor


class MachineUse:
    """Says that a cell trains on this machine, and whether another one does too."""

    def __init__(self) -> None:
        self.descriptor = machine_file("machine")
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Whether nobody else holds a use at this moment."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            # A conversion that failed has given the shared lock up as well.
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)
        return True

    def close(self) -> None:
        """Gives the use back."""
        os.close(self.descriptor)
