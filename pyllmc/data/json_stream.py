"""The objects of a large JSON array, one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from pyllmc.errors import FormatError

MAX_OBJECT = 1 << 24
_READ = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


def read_objects(stream: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    """Each object of the array of objects in a UTF-8 stream; `name` is for messages.

    Holds about 1 MiB of text besides the object. Raises FormatError for anything else.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    scan = json.JSONDecoder().raw_decode
    buffer, at, count = "", 0, 0
    opened = False
    while True:
        try:
            data = stream.read(_READ)
            buffer = buffer[at:] + decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise FormatError(f"{name} is not UTF-8 after object {count:,}") from error
        at = 0
        if not opened:
            buffer = buffer.lstrip("\ufeff \t\r\n")
            if buffer and buffer[0] != "[":
                raise FormatError(f"{name} begins with {buffer[:20]!r}, not with a JSON array")
            opened = bool(buffer)
            at = int(opened)
        while True:
            at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
            if at == len(buffer):
                break
            if buffer[at] == "]" and opened:
                return
            if buffer[at] != "{":
                raise FormatError(
                    f"{name} has {buffer[at : at + 20]!r} after object {count:,}, where a JSON "
                    "object was expected"
                )
            try:
                value, at = scan(buffer, at)
            except ValueError as error:  # cut by the end of the buffer, or wrong
                if data and len(buffer) - at < MAX_OBJECT:
                    break
                raise FormatError(f"{name} is not valid JSON after object {count:,}") from error
            count += 1
            yield value
        if not data:
            raise FormatError(f"{name} ends after object {count:,}, before its array does")
