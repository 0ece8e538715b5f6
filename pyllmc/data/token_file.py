"""llm.c's token files: 256 little-endian int32 (magic 20240520, version 1, token count, zeros),
then one uint16 a token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyllmc.errors import FormatError, UsageError
from pyllmc.files import atomic_writer

MAGIC = 20240520
VERSION = 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
MAX_TOKENS = 2**31 - 1
MAX_VOCAB_SIZE = 2**16

Tokens = NDArray[np.uint16]


def read_tokens(path: str | Path) -> Tokens:
    """The tokens of a file, mapped read-only: shape (count,), uint16.

    Raises FormatError when the header is not a token file's or its count disagrees with the
    file's size.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header = np.frombuffer(stream.read(HEADER_BYTES), dtype="<u1")
    except OSError as error:
        raise FormatError(f"could not read {path}: {error.strerror}") from error
    if header.size < HEADER_BYTES:
        raise FormatError(
            f"{path} has {size:,} bytes, fewer than the {HEADER_BYTES:,} of a token file's header"
        )
    magic, version, count = header.view("<i4")[:3].tolist()
    if magic != MAGIC or version != VERSION:
        raise FormatError(
            f"{path} begins with {magic}, {version}; a token file of uint16 tokens begins with "
            f"{MAGIC}, {VERSION}: make one with `pyllmc data prepare`"
        )
    if size != HEADER_BYTES + 2 * count:
        raise FormatError(
            f"{path} has {size:,} bytes, but {count:,} tokens take "
            f"{HEADER_BYTES + 2 * count:,}: the file is cut short or damaged, prepare it again"
        )
    if count == 0:
        return np.empty(0, dtype=np.uint16)
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(count,))


class TokenWriter:
    """Appends tokens to an open stream and counts them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tokens = 0

    def append(self, tokens: Tokens) -> None:
        """Add tokens, shape (any,), uint16; UsageError when the header cannot count them."""
        self.tokens += tokens.size
        if self.tokens > MAX_TOKENS:
            raise UsageError(
                f"a token file holds at most {MAX_TOKENS:,} tokens: prepare the text in parts, "
                "the trainer reads several files at once"
            )
        self._stream.write(np.ascontiguousarray(tokens, dtype="<u2").data)


@contextlib.contextmanager
def token_file_writer(path: str | Path) -> Iterator[TokenWriter]:
    """Write a token file of unknown length; it appears under its name when the block succeeds."""
    with atomic_writer(path) as stream:
        stream.write(bytes(HEADER_BYTES))
        writer = TokenWriter(stream)
        yield writer
        stream.seek(0)
        stream.write(np.array([MAGIC, VERSION, writer.tokens], dtype="<i4").tobytes())
