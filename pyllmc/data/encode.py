"""Documents to token ids, on all cores: tiktoken encodes outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from pyllmc.data.token_file import Tokens
from pyllmc.data.tokenizers import EOT_TEXT, Tokenizer

# tiktoken's splitting takes long, and in some versions gives up, on very long pieces.
MAX_PIECE = 1 << 18
_GROUP = 1 << 19
_MAX_THREADS = 32

In = TypeVar("In")
Out = TypeVar("Out")


class Piece(NamedTuple):
    """A document or, where it is long, a part of one."""

    text: str
    starts_document: bool


def cut_position(text: str, limit: int) -> int:
    """Where to cut `text`, at most at `limit`, so that both sides encode as in the whole.

    GPT-2's pattern never spans the place between a sign and the white space that follows it and
    looks only ahead, so a cut there changes no id. Without such a place in the first `limit`
    characters the answer is `limit`, and the ids around it may differ from the whole's.
    """
    end = limit + 1
    while True:
        blank = max(text.rfind(" ", 1, end), text.rfind("\n", 1, end))
        if blank < 1:
            return limit
        start = len(text[:blank].rstrip())
        # Python counts \x1c to \x1f as white space, the pattern does not.
        if start > 0 and text[start] not in "\x1c\x1d\x1e\x1f":
            return start
        if start == 0:
            return limit
        end = start


def cut_document(text: str, starts_document: bool = True) -> Iterator[Piece]:
    """The pieces of a text, each of at most MAX_PIECE characters."""
    start = 0
    while len(text) - start > MAX_PIECE:
        cut = start + cut_position(text[start : start + MAX_PIECE + 1], MAX_PIECE)
        yield Piece(text[start:cut], starts_document)
        starts_document = False
        start = cut
    yield Piece(text[start:], starts_document)


def encode(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> Iterator[Tokens]:
    """Token ids of the pieces in order, end-of-text before each document, in arrays of any length.

    Text that spells the end-of-text token is encoded as ordinary text.
    """
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        yield from _map_ahead(
            pool, lambda group: _encode_group(tokenizer, group), _groups(pieces), 2 * threads
        )


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Enough text for a thread to work on; a document's later pieces each open a group."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and (size >= _GROUP or not piece.starts_document):
            yield group
            group, size = [], 0
        group.append(piece)
        size += len(piece.text)
    if group:
        yield group


def _encode_group(tokenizer: Tokenizer, group: list[Piece]) -> Tokens:
    # One call for the whole group, with end-of-text spelt out, costs no Python object a token.
    text = "".join((EOT_TEXT if starts else "") + text for text, starts in group)
    if text.count(EOT_TEXT) == sum(piece.starts_document for piece in group):
        try:
            ids = tokenizer.encoding.encode_to_numpy(text, allowed_special={EOT_TEXT})
            return ids.astype(np.uint16)
        except UnicodeEncodeError:  # half of a surrogate pair, which encode_ordinary replaces
            pass
    plain: list[int] = []
    for text, starts in group:
        if starts:
            plain.append(tokenizer.eot)
        plain += tokenizer.encoding.encode_ordinary(text)
    return np.array(plain, dtype=np.uint16)


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """Executor.map that draws only `ahead` items before their results are wanted."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
