"""The C++ reader and the NumPy reader accept the same checkpoints and see the same bytes."""

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
from formats.mutations import mutate, set_word

from pyllmc import _core
from pyllmc.errors import FormatError

MUTATIONS = 2500


def resized(data: bytes, rng: random.Random) -> bytes:
    """Another shape or precision with, most of the time, the size that it asks for."""
    slot = rng.randrange(1, 8)
    data = with_word(data, slot, rng.choice([3, 5]) if slot == 1 else rng.randrange(1, 20))
    words = np.frombuffer(data, "<i4", 8).tolist()
    config = dict(zip(CONFIG_KEYS, words[2:], strict=True))
    precision = "bf16" if words[1] == 5 else "fp32"
    size = checkpoint_bytes(config, precision) + rng.choice([0, 0, 0, -4, 2, 4])
    if not 0 < size < 2**17:
        return data
    return (data + rng.randbytes(max(0, size - len(data))))[:size]


def test_both_readers_agree_on_mutated_files(tmp_path: Path) -> None:
    rng = random.Random(20240326)
    meta = {"step": 9, "fc1_bandwidth": 4, "fc2_bandwidth": 2, "init_seed": 1, "data_seed": 2}
    originals = [
        checkpoint_file(SMALL, precision=precision, **header)
        for precision in ("fp32", "bf16")
        for header in ({}, meta)
    ]
    accepted = {"fp32": 0, "bf16": 0}
    for i in range(MUTATIONS):
        original = rng.choice(originals)
        kind = rng.choice([mutate, resized, resized, set_word])
        data = kind(original, rng)
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
        if header is not None:
            accepted[header["precision"]] += 1
    # Else the mutations try one side only.
    assert min(accepted.values()) > MUTATIONS // 10
    assert sum(accepted.values()) < MUTATIONS * 8 // 10
