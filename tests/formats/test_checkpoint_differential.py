"""The C++ reader and the NumPy reader accept the same files and see the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from formats.llmc_files import (
    CONFIG_KEYS,
    SMALL,
    checkpoint_bytes,
    checkpoint_file,
    put,
    read_checkpoint,
    with_word,
)

from pyllmc import _core
from pyllmc.errors import FormatError

WORDS = (-(2**31), -1, 0, 1, 2, 3, 4, 5, 8, 12, 16, 17, 64, 2**16, 2**30, 2**31 - 1)


def resized(data: bytes, rng: random.Random) -> bytes:
    """Another shape with, most of the time, the size that it asks for."""
    slot = rng.randrange(2, 8)
    data = with_word(data, slot, rng.randrange(1, 20))
    config = dict(zip(CONFIG_KEYS, np.frombuffer(data, "<i4", 256)[2:8].tolist(), strict=True))
    size = checkpoint_bytes(config) + rng.choice([0, 0, 0, -4, 4])
    if not 0 < size < 2**17:
        return data
    return (data + rng.randbytes(max(0, size - len(data))))[:size]


def mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 3])):
        kind = rng.randrange(6)
        if kind == 0:
            data = with_word(data, rng.randrange(16), rng.choice(WORDS))
        elif kind == 1:
            data = with_word(data, rng.randrange(8, 14), rng.choice(WORDS))
        elif kind == 2:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif kind == 3:
            data = data[: rng.randrange(1024, len(data) + 1)]
        else:
            data = resized(data, rng)
    return data


def test_both_readers_agree_on_600_mutations(tmp_path: Path) -> None:
    rng = random.Random(20240326)
    originals = [
        checkpoint_file(SMALL),
        checkpoint_file(SMALL, step=9, fc1_bandwidth=4, fc2_bandwidth=2, init_seed=1, data_seed=2),
    ]
    accepted = 0
    for i in range(600):
        data = mutated(rng.choice(originals), rng)
        path = put(tmp_path / "model.bin", data)
        try:
            header, tensors = _core.read_checkpoint(path)
        except FormatError:
            header, tensors = None, {}
        try:
            expected_header, expected = read_checkpoint(data)
        except ValueError:
            expected_header, expected = None, {}
        assert header == expected_header, f"mutation {i}"
        assert {name: t.shape for name, t in tensors.items()} == {
            name: t.shape for name, t in expected.items()
        }, f"mutation {i}"
        assert all(tensors[name].tobytes() == expected[name].tobytes() for name in expected)
        accepted += header is not None
    assert 150 < accepted < 450  # else the mutations try one side only
