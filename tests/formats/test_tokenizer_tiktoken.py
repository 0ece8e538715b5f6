"""The C++ encoder gives tiktoken's ids: on real text, odd strings and every kind of character."""

from __future__ import annotations

import random
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from formats.llmc_files import put, tokenizer_file

from pyllmc import _core

# The split pattern as GPT-2's encoder publishes it; tiktoken's own is an equivalent.
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
BYTES = [bytes([i]) for i in range(256)]

ODD = [
    "don't I'll we've they're he'd I'm it's 'tis 'S 'LL 'sd ''s '",
    "  two  spaces\tand\ttabs \n\n newline \r\n crlf   ",
    "\n\n\n", " ", "  ", "\t ", " \t", " a", "  a", "\n a", " \na", "a\u00a0b \u00a0c\u00a0 d",
    "\u2003em\u2028line\u3000ideographic \u3000 \u202f \x85 \x1c\x1d \x0b\x0c \ufeff \u200b \u180e",
    "naïve café Straße ŁÓDŹ ﬁne ǅ ʰ ª º", "e\u0301 a\u0308\u0301x o\u0302 1",
    "价格是一百元。日本語テスト、ひらがな ｶﾀｶﾅ 한국어 \u1112\u1161\u11ab",
    "مرحبا بالعالم ٠١٢٣ שָׁלוֹם हिन्दी ०१२ ไทย ๑๒๓ தமிழ்",
    "½ ² Ⅷ ① ㊿ ௱ 𝟘𝟙 𐄇 1,234.5 3a4 a3b 1st 2nd",
    "👍🏽👩‍👩‍👧‍👦🇩🇪 ☺️ :-) <|endoftext|> https://a.b/c?d=e#f",
    "𝒜𝓁𝓅𝒽𝒶 𐐷 𠀀𪜶 \U0010ffff \U000e0001 \ue000 \ufffe \uffff \ufffd",
    "a\0b\0\0c", "\0", "x" * 1000, " " * 1000 + "x", "=" * 333, "ab1!" * 99, "\n \n  \n" * 50,
]  # fmt: skip


def pair(tokens: list[bytes], tmp_path: Path) -> tuple[Any, tiktoken.Encoding]:
    """Both tokenizers of one vocabulary, an end-of-text token behind it."""
    ours = put(tmp_path / "t.bin", tokenizer_file([*tokens, b"<|endoftext|>"], len(tokens)))
    ranks = {token: id for id, token in enumerate(tokens)}
    return _core.Tokenizer(ours), tiktoken.Encoding(
        "test", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
    )


@pytest.fixture
def gpt2(tmp_path: Path, tiktoken_cache: Path) -> tuple[Any, tiktoken.Encoding]:
    encoding = tiktoken.get_encoding("gpt2")
    tokens = [encoding.decode_single_token_bytes(id) for id in range(encoding.n_vocab)]
    ours = put(tmp_path / "gpt2_tokenizer.bin", tokenizer_file(tokens, encoding.eot_token))
    return _core.Tokenizer(ours), encoding


@pytest.mark.parametrize("name", ["tinystories_sample.txt", "tinyshakespeare.txt"])
def test_real_text(name: str, gpt2: tuple[Any, tiktoken.Encoding], shared_data: Path) -> None:
    ours, theirs = gpt2
    text = (shared_data / name).read_text()
    ids = ours.encode(text)
    assert ids == theirs.encode_ordinary(text)
    assert ours.decode(ids) == text.encode()


def test_odd_strings_with_gpt2s_vocabulary(gpt2: tuple[Any, tiktoken.Encoding]) -> None:
    ours, theirs = gpt2
    for text in [*ODD, " ".join(ODD), "".join(ODD)]:
        assert ours.encode(text) == theirs.encode_ordinary(text)


def random_vocabulary(rng: random.Random) -> list[bytes]:
    """Bytes and merges of them, in the order in which they came to be, as BPE training makes."""
    tokens = list(BYTES)
    seeds = "".join(ODD).encode()
    while len(tokens) < 600:
        at = rng.randrange(len(seeds) - 1)
        pool = [
            seeds[at : at + 1],
            seeds[at + 1 : at + 2],
            *rng.choices(tokens[256:] or tokens, k=2),
        ]
        token = b"".join(rng.sample(pool, 2))
        if token not in tokens and len(token) < 40:
            tokens.append(token)
    return tokens


def test_random_strings_with_random_vocabularies(tmp_path: Path) -> None:
    rng = random.Random(20240328)
    alphabet = "".join(ODD)
    for _ in range(20):
        ours, theirs = pair(random_vocabulary(rng), tmp_path)
        for text in ODD:
            assert ours.encode(text) == theirs.encode_ordinary(text)
        for _ in range(100):
            text = "".join(rng.choices(alphabet, k=rng.randrange(60)))
            assert ours.encode(text) == theirs.encode_ordinary(text), repr(text)


@pytest.fixture
def probes(tmp_path: Path) -> tuple[Any, tiktoken.Encoding]:
    """Encoders whose tokens join a letter, a number or a sign with the first byte of any character:
    they appear where the two stand in one piece, so they show each character's class."""
    joined = [first + bytes([lead]) for first in (b"a", b"1", b"!") for lead in range(256)]
    return pair([*BYTES, *joined], tmp_path)


def test_class_of_every_assigned_character(probes: tuple[Any, tiktoken.Encoding]) -> None:
    """Characters that Python's older tables do not know yet may differ between versions."""
    if tuple(map(int, unicodedata.unidata_version.split("."))) > (16, 0, 0):
        pytest.skip(f"Unicode {unicodedata.unidata_version} is newer than the core's tables, 16.0")
    categories = ((c, unicodedata.category(c)) for c in map(chr, range(sys.maxunicode + 1)))
    known = [c for c, category in categories if category not in ("Cn", "Co", "Cs")]
    assert len(known) > 140_000
    ours, theirs = probes
    text = "".join(f"a{c}1{c}!{c} {c}\n" for c in known)
    assert ours.encode(text) == theirs.encode_ordinary(text)


@pytest.mark.parametrize(
    ("first", "count"), [("a", 141_028), ("1", 1_911)], ids=["letters", "numbers"]
)
def test_number_of_characters_in_a_class_is_unicode_16s(
    first: str, count: int, probes: tuple[Any, tiktoken.Encoding]
) -> None:
    ours, _ = probes
    characters = (chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000)
    ids = ours.encode("\n".join(first + c for c in characters))
    assert sum(id >= 256 for id in ids) == count
