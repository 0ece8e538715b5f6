"""The package's two readers of token files, C++ and NumPy, accept the same and see the same."""

from __future__ import annotations

import random
from pathlib import Path

from formats.llmc_files import HEADER_BYTES, put, token_file, with_word
from formats.mutations import WORDS, lengthen, mutate

from pyllmc import _core
from pyllmc.data.token_file import read_tokens
from pyllmc.errors import FormatError

MUTATIONS = 2500


def recounted(data: bytes, rng: random.Random) -> bytes:
    """Another count, most of the time with the bytes for it."""
    count = rng.choice([rng.randrange(120), rng.choice(WORDS)])
    data = with_word(data, 2, count)
    size = HEADER_BYTES + 2 * count + rng.choice([0, 0, 0, -1, 1, 2])
    return (data + rng.randbytes(240))[:size] if 0 <= count < 120 else data


def changed_in_place(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(12, len(data))
    return data[:at] + rng.randbytes(len(data) - at)


def test_both_readers_agree_on_mutated_files(tmp_path: Path) -> None:
    rng = random.Random(20240520)
    originals = [token_file(range(100)), token_file([]), token_file([65535, 0, 1])]
    accepted = 0
    for i in range(MUTATIONS):
        kind = rng.choice([mutate, recounted, changed_in_place, lengthen])
        path = put(tmp_path / "x.bin", kind(rng.choice(originals), rng))
        try:
            shards = _core.TokenShards(path)
            found = shards.read(0, 0, shards.tokens).tolist()
        except FormatError:
            found = None
        try:
            expected = read_tokens(path).tolist()
        except FormatError:
            expected = None
        assert found == expected, f"mutation {i}"
        accepted += found is not None
    assert MUTATIONS // 5 < accepted < MUTATIONS * 4 // 5
