"""Files with something wrong: bytes flipped, cut, repeated, header words replaced."""

from __future__ import annotations

import random

from formats.llmc_files import HEADER_BYTES, with_word

WORDS = (-(2**31), -1, 0, 1, 2, 3, 4, 5, 8, 12, 16, 17, 64, 2**16, 2**30, 2**31 - 1)


def flip_bit(data: bytes, rng: random.Random, first: int = 0) -> bytes:
    if len(data) <= first:
        return data
    at = rng.randrange(first, len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Somewhere behind the header, or in it."""
    return data[: rng.randrange(rng.choice([0, min(HEADER_BYTES, len(data))]), len(data) + 1)]


def lengthen(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice([1, 2, 4, 16]))


def set_word(data: bytes, rng: random.Random, slots: int = 16) -> bytes:
    value = rng.choice([rng.choice(WORDS), rng.randrange(300), rng.randrange(2**32)])
    return with_word(data, rng.randrange(slots), value) if len(data) >= 4 * slots else data


def splice(data: bytes, rng: random.Random, first: int = HEADER_BYTES) -> bytes:
    """A piece left out, moved, repeated or filled with one byte."""
    if len(data) <= first + 1:
        return data
    at, to = sorted(rng.choices(range(first, len(data)), k=2))
    to = min(to, at + 40)
    piece = rng.choice([b"", data[at:to] * 2, bytes([rng.randrange(256)]) * (to - at)])
    return data[:at] + piece + data[to:]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three of the above."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        change = rng.choice([flip_bit, cut, lengthen, set_word, set_word, splice])
        data = change(data, rng)
    return data
