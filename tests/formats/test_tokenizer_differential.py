"""The package's two readers of tokenizer files, C++ and Python, see the same in mutated ones."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from formats.llmc_files import HEADER_BYTES, put, tokenizer_file, with_word
from formats.mutations import mutate

from pyllmc import _core
from pyllmc.data.tokenizer_file import read_tokenizer_file
from pyllmc.errors import FormatError

MUTATIONS = 2500
GPT2_SIZE = 50257


def another_vocabulary(data: bytes, rng: random.Random) -> bytes:
    """Good but for an end-of-text id or a token that may not be."""
    tokens = [rng.randbytes(rng.choice([1, 1, 2, 5, 255])) for _ in range(rng.randrange(1, 12))]
    if rng.random() < 0.2:
        tokens[rng.randrange(len(tokens))] = b""
    return tokenizer_file(tokens, rng.randrange(len(tokens) + 2))


def changed_in_place(data: bytes, rng: random.Random) -> bytes:
    """A byte behind the header: of a token, or the length of one."""
    at = rng.randrange(HEADER_BYTES, len(data))
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def recounted(data: bytes, rng: random.Random) -> bytes:
    return with_word(data, rng.choice([1, 2, 3]), rng.choice([0, 1, 2, 9, 10, 11, 2**32 - 1]))


def test_both_readers_agree_on_mutated_files(tmp_path: Path) -> None:
    rng = random.Random(20240328)
    originals = [
        tokenizer_file([b"a", b"bc", b"\xff" * 255, b"d", b"\0", b"e", b"f", b"gh", b"i", b"j"], 9),
        tokenizer_file([b"x"], 0),
    ]
    accepted = 0
    for i in range(MUTATIONS):
        kind = rng.choice([mutate, another_vocabulary, changed_in_place, recounted])
        found, expected = both(put(tmp_path / "t.bin", kind(rng.choice(originals), rng)))
        assert found == expected, f"mutation {i}"
        accepted += found is not None
    assert MUTATIONS // 5 < accepted < MUTATIONS * 4 // 5


def both(path: Path) -> list[tuple[list[bytes], int] | None]:
    """What the C++ reader and the Python reader see: (tokens, end-of-text id), or None."""
    answers: list[tuple[list[bytes], int] | None] = [None, None]
    with contextlib.suppress(FormatError):
        tokenizer = _core.Tokenizer(path)
        tokens = [tokenizer.decode([id]) for id in range(tokenizer.vocab_size)]
        answers[0] = (tokens, tokenizer.eot)
    with contextlib.suppress(FormatError):
        answers[1] = read_tokenizer_file(path)
    return answers


def test_version_1_is_gpt2s_and_has_its_end_of_text(tmp_path: Path) -> None:
    tokens = [i.to_bytes(3, "big") for i in range(GPT2_SIZE)]
    good = tokenizer_file(tokens, 0, version=1)
    for data, readable in [
        (good, True),
        (with_word(good, 3, 7), True),  # version 1 does not use the word
        (good[:-4], False),
        (tokenizer_file(tokens[1:], 0, version=1), False),
        (with_word(good, 2, GPT2_SIZE - 1), False),
    ]:
        found, expected = both(put(tmp_path / "t.bin", data))
        assert found == expected == ((tokens, GPT2_SIZE - 1) if readable else None)
