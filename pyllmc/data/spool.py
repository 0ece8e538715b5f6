"""Tokens kept on disk until it is known which split they belong to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from pyllmc.data.token_file import Tokens
from pyllmc.errors import WriteError

_BLOCK = 1 << 21


class TokenSpool:
    """An unnamed temporary file of uint16 in `folder`, gone when it is closed or we are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tokens = 0

    def __enter__(self) -> TokenSpool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise self._error(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, tokens: Tokens) -> None:
        try:
            self._file.write(tokens.data)
        except OSError as error:
            raise self._error(error) from error
        self.tokens += tokens.size

    def read(self, start: int, stop: int) -> Iterator[Tokens]:
        """Tokens [start, stop), in blocks; nothing may be appended in between."""
        try:
            self._file.seek(2 * start)
        except OSError as error:
            raise self._error(error) from error
        while start < stop:
            block = np.frombuffer(self._file.read(2 * min(_BLOCK, stop - start)), dtype=np.uint16)
            start += block.size
            yield block

    def _error(self, error: OSError) -> WriteError:
        return WriteError(
            f"could not write a temporary file in {self._folder} ({error.strerror}): check the "
            "free space and the folder's permissions"
        )
