"""llm.c's three file formats in NumPy and Python integers, written apart from the C++ core.

The readers raise ValueError where the C++ readers raise FormatError.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

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
NO_META = {"step": 0, "has_meta": False, "precision": "fp32"} | dict.fromkeys(META_KEYS, 0)
VERSIONS = {"fp32": 3, "bf16": 5}


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


def checkpoint_bytes(config: dict[str, int], precision: str = "fp32") -> int:
    size = 2 if precision == "bf16" else 4
    return HEADER_BYTES + size * sum(math.prod(s) for s in tensor_shapes(config).values())


def checkpoint_header(config: dict[str, int], precision: str = "fp32", **meta: int) -> np.ndarray:
    """256 words; with bandwidths or seeds in `meta` the header extension is there."""
    header = np.zeros(256, "<u4")
    header[:2] = 20240326, VERSIONS[precision]
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


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Finite values to the nearest bf16, as uint16, ties to even: compared with both neighbours."""
    below = np.asarray(values, "<f4").view("<u4") >> 16  # towards zero
    exact = values.astype(np.float64)
    low = (below << 16).view("<f4").astype(np.float64)
    high = np.where(below & 0x7FFF == 0x7F7F, np.sign(exact) * 2.0**128, 0.0)
    inside = high == 0
    high[inside] = ((below[inside] + 1) << 16).view("<f4")
    up = (abs(high - exact) < abs(exact - low)) | (
        (abs(high - exact) == abs(exact - low)) & (below % 2 == 1)
    )
    return (below + up).astype("<u2")


def from_bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype("<u4") << 16).view("<f4")


def checkpoint_file(
    config: dict[str, int], seed: int = 0, precision: str = "fp32", **meta: int
) -> bytes:
    tensors = list(random_tensors(config, seed).values())
    if precision == "bf16":
        tensors = [to_bf16(tensor) for tensor in tensors]
    header = checkpoint_header(config, precision, **meta)
    return header.tobytes() + b"".join(t.tobytes() for t in tensors)


def read_checkpoint(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if len(data) < HEADER_BYTES:
        raise ValueError("short header")
    header = [int(word) for word in np.frombuffer(data, "<i4", 256)]
    precision = {3: "fp32", 5: "bf16"}.get(header[1])
    if header[0] != 20240326 or precision is None:
        raise ValueError("magic or version")
    config = dict(zip(CONFIG_KEYS, header[2:8], strict=True))
    if min(config.values()) < 1 or config["vocab_size"] > config["padded_vocab_size"]:
        raise ValueError("dimensions")
    if config["channels"] % config["num_heads"]:
        raise ValueError("heads")
    if checkpoint_bytes(config, precision) != len(data):
        raise ValueError("size")
    if header[8] < 0 or header[9] not in (0, 1):
        raise ValueError("step or extension")
    meta = dict(NO_META, step=header[8], has_meta=header[9] == 1, precision=precision)
    if meta["has_meta"]:
        if min(header[10:12]) < 0:
            raise ValueError("bandwidth")
        seeds = [word % 2**32 for word in header[12:14]]
        meta.update(zip(META_KEYS, header[10:12] + seeds, strict=True))
    tensors, at = {}, HEADER_BYTES
    for name, shape in tensor_shapes(config).items():
        count = math.prod(shape)
        if precision == "bf16":
            tensors[name] = from_bf16(np.frombuffer(data, "<u2", count, at)).reshape(shape)
            at += 2 * count
        else:
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
