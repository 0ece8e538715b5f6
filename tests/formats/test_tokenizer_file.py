"""Tokenizer files: named bad ones, and the ids and bytes that good ones give."""

from __future__ import annotations

import enum
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.llmc_files import HEADER_BYTES, put, swapped_magic, tokenizer_file, with_word

from pyllmc import _core
from pyllmc.errors import FormatError, UsageError

BYTES = [bytes([i]) for i in range(256)]
WORDS = [*BYTES, b"th", b"the", b" the", b"<|endoftext|>"]
GOOD = tokenizer_file(WORDS, eot=259)
SIZE = len(GOOD)


class Bad(enum.Enum):
    """One defect each: the file's bytes, and what the message must say."""

    EMPTY = (b"", ["has 0 bytes", "1024"])
    HEADER_ONLY = (GOOD[:HEADER_BYTES], ["has 1024 bytes", "260 tokens"])
    ONE_BYTE_LESS = (GOOD[:-1], ["id 259 of 260", "13 bytes left"])
    ONE_BYTE_MORE = (GOOD + b"\0", ["1 bytes after its 260 tokens"])
    ONE_TOKEN_MORE = (GOOD + b"\1a", ["2 bytes after its 260 tokens"])
    ONE_PAGE_MORE = (GOOD + bytes(4096), ["4096 bytes after its 260 tokens"])
    TOO_LARGE = (GOOD + bytes(2**17), [f"has {SIZE + 2**17} bytes", "260 tokens"])
    EMPTY_TOKEN = (tokenizer_file([*BYTES, b"", b"ab"], 257), ["id 256 of 258", "length is 0"])
    LENGTH_PAST_THE_END = (GOOD[:-14] + b"\xff" + GOOD[-13:], ["id 259 of 260", "length is 255"])
    NO_TOKENS = (with_word(GOOD, 2, 0), ["vocabulary of 0 tokens"])
    ONE_TOKEN_MISSING = (with_word(GOOD, 2, 261), ["id 260 of 261", "0 bytes left"])
    TOKENS_LARGEST = (with_word(GOOD, 2, 2**32 - 1), ["vocabulary of 4294967295 tokens"])
    EOT_IS_THE_COUNT = (with_word(GOOD, 3, 260), ["end-of-text id 260", "260 tokens"])
    EOT_LARGEST = (with_word(GOOD, 3, 2**32 - 1), ["end-of-text id 4294967295"])
    MAGIC_ZERO = (with_word(GOOD, 0, 0), ["magic number 0", "20240328"])
    MAGIC_OF_TOKENS = (with_word(GOOD, 0, 20240520), ["20240520", "20240328"])
    MAGIC_SWAPPED = (swapped_magic(GOOD), ["byte-swapped", "20240328"])
    VERSION_0 = (with_word(GOOD, 1, 0), ["version 0", "expected 1 or 2"])
    VERSION_3 = (with_word(GOOD, 1, 3), ["version 3", "expected 1 or 2"])
    VERSION_1_OF_ANOTHER_SIZE = (with_word(GOOD, 1, 1), ["version 1", "260 tokens", "50257"])


def refuse(path: Path, fragments: list[str]) -> None:
    with pytest.raises(FormatError) as caught:
        _core.Tokenizer(path)
    for fragment in [str(path), *fragments]:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("bad", Bad, ids=lambda bad: bad.name)
def test_bad_file_is_refused_with_the_value(bad: Bad, tmp_path: Path) -> None:
    data, fragments = bad.value
    refuse(put(tmp_path / "tokenizer.bin", data), fragments)


def test_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.bin"
    for length in range(SIZE):
        refuse(put(path, GOOD[:length]), [])


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "tokenizer.bin", ["No such file"])
    refuse(tmp_path, ["is a folder"])


def make(tmp_path: Path, tokens: list[bytes], eot: int) -> Any:
    return _core.Tokenizer(put(tmp_path / "tokenizer.bin", tokenizer_file(tokens, eot)))


def test_vocabulary_is_read(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, WORDS, 259)
    assert (tokenizer.vocab_size, tokenizer.eot) == (260, 259)
    assert [tokenizer.decode([id]) for id in range(260)] == WORDS
    assert tokenizer.decode([258, 0, 259]) == b" the\0<|endoftext|>"
    assert tokenizer.decode([]) == b""


@pytest.mark.parametrize("id", [-1, 260, 2**40])
def test_id_outside_the_vocabulary_is_refused(id: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"token id {id} was asked for"):
        make(tmp_path, WORDS, 259).decode([0, id])


def test_version_1_has_gpt2s_end_of_text(tmp_path: Path) -> None:
    tokens = BYTES + [i.to_bytes(3, "big") for i in range(50257 - 256)]
    path = put(tmp_path / "tokenizer.bin", tokenizer_file(tokens, 0, version=1))
    assert _core.Tokenizer(path).eot == 50256


def test_lowest_id_merges_first(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, [*BYTES, b"bc", b"ab", b"abc", b"end"], 259)
    assert tokenizer.encode("abc") == [258]  # a whole piece that is a token
    assert tokenizer.encode("abcd") == [258, 100]  # a + bc, then abc
    assert tokenizer.encode("aab") == [97, 257]
    assert tokenizer.encode("") == []


def test_leftmost_of_equal_merges_comes_first(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, [*BYTES, b"aa", b"end"], 257)
    assert tokenizer.encode("aaaaa") == [256, 256, 97]


def test_text_of_the_end_of_text_token_does_not_become_it(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, [*BYTES, b"ends"], 256)
    assert tokenizer.encode("ends") == [101, 110, 100, 115]


def test_byte_without_a_token_is_refused(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, [b"a", b"b", b"ab", b"end"], 3)
    assert tokenizer.encode("abb") == [2, 1]
    with pytest.raises(UsageError, match="no token for byte 99"):
        tokenizer.encode("abc")


def test_any_bytes_come_back(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, WORDS, 259)
    rng = np.random.default_rng(1)
    for length in range(300):
        data = rng.integers(0, 256, length, np.uint8).tobytes()
        assert tokenizer.decode(tokenizer.encode(data)) == data


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff",
        b"\x80",
        b"\xc3",  # a lead byte alone
        b"\xc1\xa1",  # 'a' in two bytes
        b"\xe0\x81\xa1",  # 'a' in three bytes
        b"\xf0\x80\x81\xa1",  # 'a' in four bytes
        b"\xed\xa0\x80",  # a surrogate
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xf8\x90\x80\x80",  # a letter but for the fifth bit
        b"\xf8\x88\x80\x80\x80",
        b"\xe4\xb8",  # a letter cut short
        b"\xe4\xb8z",
    ],
)
def test_bytes_that_are_not_utf8_are_split_as_punctuation(bad: bytes, tmp_path: Path) -> None:
    tokenizer = make(tmp_path, [*BYTES, b"!" + bad[:1], b"a" + bad[:1], b"end"], 258)
    assert tokenizer.encode(b"!" + bad)[0] == 256  # one piece: merged
    assert tokenizer.encode(b"a" + bad)[0] == 97  # two pieces: not


def test_runs_of_100_000_characters_take_about_a_second_at_most(tmp_path: Path) -> None:
    runs = [b"a" * 2**i for i in range(1, 8)]
    tokenizer = make(tmp_path, [*BYTES, *runs, b"end"], 263)
    for text in ("a" * 100_001, "ab" * 50_000, " " * 100_000, "é" * 50_000):
        start = time.process_time()
        ids = tokenizer.encode(text)
        assert time.process_time() - start < 1
        assert tokenizer.decode(ids) == text.encode()
    assert tokenizer.encode("a" * 100_001)[:2] == [262, 262]


def test_memory_of_a_closed_tokenizer_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path / "tokenizer.bin", GOOD)
    tokenizer = _core.Tokenizer(path)
    os.truncate(path, 0)
    assert tokenizer.encode("the the") == [257, 258]
