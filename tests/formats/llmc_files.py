"""llm.c's three file formats in NumPy and Python integers, written apart from the C++ core.

The readers raise ValueError where the C++ readers raise FormatError.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

HEADER_BYTES = 1024
CONFIG_KEYS = (
    "max_seq_len",
    "vocab_size",
    "num_layers",
    "num_heads",
    "channels",
    "padded_vocab_size",
)
META_KEYS = ("fc1_bandwidth", "fc2_bandwidth", "init_seed", "data_seed")
SMALL = dict(zip(CONFIG_KEYS, (8, 11, 2, 2, 4, 16), strict=True))
NO_META = {"step": 0, "has_meta": False} | dict.fromkeys(META_KEYS, 0)


def tensor_shapes(config: dict[str, int]) -> dict[str, tuple[int, ...]]:
    T, _, L, _, C, Vp = (config[key] for key in CONFIG_KEYS)
    return {
        "wte": (Vp, C),
        "wpe": (T, C),
        "ln1w": (L, C),
        "ln1b": (L, C),
        "qkvw": (L, 3 * C, C),
        "qkvb": (L, 3 * C),
        "attprojw": (L, C, C),
        "attprojb": (L, C),
        "ln2w": (L, C),
        "ln2b": (L, C),
        "fcw": (L, 4 * C, C),
        "fcb": (L, 4 * C),
        "fcprojw": (L, C, 4 * C),
        "fcprojb": (L, C),
        "lnfw": (C,),
        "lnfb": (C,),
    }


def checkpoint_bytes(config: dict[str, int]) -> int:
    return HEADER_BYTES + 4 * sum(math.prod(s) for s in tensor_shapes(config).values())


def checkpoint_header(config: dict[str, int], **meta: int) -> np.ndarray:
    """256 words; with bandwidths or seeds in `meta` the header extension is there."""
    header = np.zeros(256, "<u4")
    header[:2] = 20240326, 3
    header[2:8] = [config[key] % 2**32 for key in CONFIG_KEYS]
    header[8] = meta.get("step", 0)
    if meta.keys() & set(META_KEYS):
        header[9] = 1
        header[10:14] = [meta.get(key, 0) for key in META_KEYS]
    return header.view("<i4")


def random_tensors(config: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(config).items()
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes}


def checkpoint_file(config: dict[str, int], seed: int = 0, **meta: int) -> bytes:
    tensors = random_tensors(config, seed).values()
    return checkpoint_header(config, **meta).tobytes() + b"".join(t.tobytes() for t in tensors)


def read_checkpoint(data: bytes) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    if len(data) < HEADER_BYTES:
        raise ValueError("short header")
    header = [int(word) for word in np.frombuffer(data, "<i4", 256)]
    if header[:2] != [20240326, 3]:
        raise ValueError("magic or version")
    config = dict(zip(CONFIG_KEYS, header[2:8], strict=True))
    if min(config.values()) < 1 or config["vocab_size"] > config["padded_vocab_size"]:
        raise ValueError("dimensions")
    if config["channels"] % config["num_heads"]:
        raise ValueError("heads")
    if checkpoint_bytes(config) != len(data):
        raise ValueError("size")
    if header[8] < 0 or header[9] not in (0, 1):
        raise ValueError("step or extension")
    meta = dict(NO_META, step=header[8], has_meta=header[9] == 1)
    if meta["has_meta"]:
        if min(header[10:12]) < 0:
            raise ValueError("bandwidth")
        seeds = [word % 2**32 for word in header[12:14]]
        meta.update(zip(META_KEYS, header[10:12] + seeds, strict=True))
    tensors, at = {}, HEADER_BYTES
    for name, shape in tensor_shapes(config).items():
        count = math.prod(shape)
        tensors[name] = np.frombuffer(data, "<f4", count, at).reshape(shape)
        at += 4 * count
    return config | meta, tensors


def token_file(tokens: np.ndarray | list[int]) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    return header.tobytes() + np.asarray(tokens, "<u2").tobytes()


def tokenizer_file(tokens: list[bytes], eot: int, version: int = 2) -> bytes:
    header = np.zeros(256, "<u4")
    header[:4] = 20240328, version, len(tokens), eot if version > 1 else 0
    return header.tobytes() + b"".join(bytes([len(token)]) + token for token in tokens)


def with_word(data: bytes, slot: int, value: int) -> bytes:
    """The file with header word `slot` set to `value`, taken modulo 2^32."""
    word = (value % 2**32).to_bytes(4, "little")
    return data[: 4 * slot] + word + data[4 * slot + 4 :]


def swapped_magic(data: bytes) -> bytes:
    return data[3::-1] + data[4:]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
