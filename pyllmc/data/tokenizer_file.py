"""llm.c's tokenizer files: 256 little-endian uint32 (magic 20240328, version 2, vocabulary size,
end-of-text id, zeros), then for each id a length byte and the token's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pyllmc.errors import FormatError, UsageError
from pyllmc.files import atomic_write

MAGIC = 20240328
VERSION = 2
# Version 1 names no end-of-text id: it is GPT-2's vocabulary.
GPT2_VOCAB_SIZE = 50257
GPT2_EOT = 50256
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
MAX_TOKEN_BYTES = 255


def write_tokenizer_file(path: str | Path, tokens: Sequence[bytes], eot: int) -> None:
    """Write the bytes of every token id, in order, and the end-of-text id."""
    header = np.zeros(HEADER_INTS, dtype="<u4")
    header[:4] = MAGIC, VERSION, len(tokens), eot
    body = bytearray(header.tobytes())
    for token_id, token in enumerate(tokens):
        if not 1 <= len(token) <= MAX_TOKEN_BYTES:
            raise UsageError(
                f"token {token_id} has {len(token)} bytes, a tokenizer file holds 1 to "
                f"{MAX_TOKEN_BYTES}: use another vocabulary"
            )
        body.append(len(token))
        body += token
    atomic_write(path, bytes(body))


def read_tokenizer_file(path: str | Path) -> tuple[list[bytes], int]:
    """The bytes of every token id and the end-of-text id; FormatError when the file is damaged."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"could not read {path}: {error.strerror}") from error
    if len(data) < HEADER_BYTES:
        raise FormatError(
            f"{path} has {len(data):,} bytes, fewer than the {HEADER_BYTES:,} of a tokenizer "
            "file's header"
        )
    magic, version, vocab_size, eot = np.frombuffer(data, dtype="<u4", count=4).tolist()
    if magic != MAGIC or version not in (1, VERSION):
        raise FormatError(
            f"{path} begins with {magic}, {version}; a tokenizer file begins with "
            f"{MAGIC}, {VERSION}"
        )
    if version == 1:
        if vocab_size != GPT2_VOCAB_SIZE:
            raise FormatError(
                f"{path} has version 1, which is GPT-2's {GPT2_VOCAB_SIZE:,} tokens, and claims "
                f"{vocab_size:,}: write it again as version 2"
            )
        eot = GPT2_EOT
    tokens: list[bytes] = []
    at = HEADER_BYTES
    while at < len(data) and len(tokens) < vocab_size:
        end = at + 1 + data[at]
        if data[at] == 0 or end > len(data):
            break
        tokens.append(data[at + 1 : end])
        at = end
    if len(tokens) != vocab_size or at != len(data) or eot >= vocab_size:
        raise FormatError(
            f"{path} claims {vocab_size:,} tokens with end-of-text {eot:,}, but its "
            f"{len(data):,} bytes hold {len(tokens):,} whole ones: it is damaged, prepare it again"
        )
    return tokens, eot
