"""Files written aside, synced and renamed, so that a reader sees the old file or the whole new one.

What this guards against is a crash, a full disk or Ctrl-C half-way; the temporary file lies in the
same folder (a rename never crosses a file system) and is removed when anything fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pyllmc.errors import FormatError, WriteError

_WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_serial = itertools.count()


@contextlib.contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes; the file appears under its name only if the block succeeds.

    The stream is seekable. Missing folders are made; an existing file keeps its permissions.
    Raises WriteError when the file cannot be made, written or renamed; any other exception of the
    block passes through and leaves `path` as it was.
    """
    path = Path(path)
    # A dot in front keeps globs such as data/*_train*.bin from matching a half-written file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.tmp")
    renamed = False
    stream: BinaryIO | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = open(temporary, "xb")  # noqa: SIM115
        except OSError as error:
            raise _write_error(path, error) from error
        try:
            yield stream
        except OSError as error:
            # The block may also read other files: only what a write can cause is ours.
            if error.errno in _WRITE_ERRNOS and error.filename is None:
                raise _write_error(path, error) from error
            raise
        try:
            stream.flush()
            if path.exists():
                os.chmod(temporary, path.stat().st_mode & 0o7777)
            os.fsync(stream.fileno())
            stream.close()
            os.replace(temporary, path)
            renamed = True
            sync_folder(path.parent)
        except OSError as error:
            raise _write_error(path, error) from error
    finally:
        if stream is not None:
            # A failed flush is tried again by close and would hide the first error.
            with contextlib.suppress(OSError):
                stream.close()
        if stream is not None and not renamed:
            with contextlib.suppress(OSError):
                temporary.unlink()


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write a whole file at once (str as UTF-8, line ends as given); see `atomic_writer`."""
    with atomic_writer(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def read_json_object(path: Path, advice: str = "") -> dict[str, Any] | None:
    """A JSON object from a file, None when there is no such file.

    Raises FormatError for anything else in its place; `advice` ends the sentence.
    """
    ending = f"; {advice}" if advice else ""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}{ending}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON: {error}{ending}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path} holds no JSON object{ending}")
    return content


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes. Raises FormatError when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    return WriteError(
        f"could not write {path} ({reason}): check the free space and the folder's permissions"
    )
