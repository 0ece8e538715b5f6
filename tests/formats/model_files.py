"""pyllmc's own model file in NumPy and Python's json, written apart from the C++ core.

The reader raises ValueError where the C++ reader raises FormatError.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any

import numpy as np

from .llmc_files import CONFIG_KEYS, tensor_shapes

MAGIC, VERSION, PREFIX, ALIGNMENT = 20261122, 1, 16, 64
PATTERNS = ("band", "random", "block", "band-permuted-residual", "band-permuted-hidden")
NUMBERS = {"step": 2**31 - 1, **dict.fromkeys(("mask_seed", "init_seed", "data_seed"), 2**32 - 1)}
KEYS = {*CONFIG_KEYS, "hidden", "mlp_rank", "fc1_bandwidth", "fc2_bandwidth", "pattern", *NUMBERS}


def description(config: dict[str, int], **changes: Any) -> dict[str, Any]:
    """The JSON object of a dense model, with `changes`."""
    dense = [0] * config["num_layers"]
    return {
        **config,
        "hidden": 4 * config["channels"],
        "mlp_rank": 0,
        "fc1_bandwidth": dense,
        "fc2_bandwidth": dense,
        "pattern": "band",
        "step": 0,
        "mask_seed": 1337,
        "init_seed": 1,
        "data_seed": 2,
        **changes,
    }


def shapes(about: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    L, C, H, r = (about[key] for key in ("num_layers", "channels", "hidden", "mlp_rank"))
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in tensor_shapes(about).items():
        if name in ("fcw", "fcprojw"):
            rows, cols = (H, C) if name == "fcw" else (C, H)
            if r:
                found[name.replace("w", "inw")] = (L, r, cols)
            shape = (L, rows, r or cols)
        found[name] = (L, H) if name == "fcb" else shape
    return found


def random_tensors(about: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: 0.1 * rng.standard_normal(s, np.float32) for n, s in shapes(about).items()}


def prefix(text: bytes, **changes: int) -> bytes:
    words = {"magic": MAGIC, "version": VERSION, "length": len(text), "crc": zlib.crc32(text)}
    return struct.pack("<iiII", *(words | changes).values())


def padded(text: str) -> bytes:
    return text.encode() + b" " * (-(PREFIX + len(text.encode())) % ALIGNMENT)


def with_text(text: str, tensors: bytes = b"") -> bytes:
    return prefix(padded(text)) + padded(text) + tensors


def model_file(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    body = b"".join(np.asarray(tensors[name], "<f4").tobytes() for name in shapes(about))
    return with_text(json.dumps(about), body)


def read_model(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if len(data) < PREFIX:
        raise ValueError("short")
    magic, version, length, crc = struct.unpack("<iiII", data[:PREFIX])
    text = data[PREFIX : PREFIX + length]
    if (magic, version) != (MAGIC, VERSION) or length > 2**20 or len(text) < length:
        raise ValueError("prefix")
    if (PREFIX + length) % ALIGNMENT or zlib.crc32(text) != crc:
        raise ValueError("checksum")
    about = json.loads(text, object_pairs_hook=unique)
    if not isinstance(about, dict) or about.keys() != KEYS:
        raise ValueError("keys")
    check(about)
    if len(data) != PREFIX + length + 4 * sum(math.prod(s) for s in shapes(about).values()):
        raise ValueError("size")
    tensors, at = {}, PREFIX + length
    for name, shape in shapes(about).items():
        tensors[name] = np.frombuffer(data, "<f4", math.prod(shape), at).reshape(shape)
        at += 4 * math.prod(shape)
    return about, tensors


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def check(about: dict[str, Any]) -> None:
    lists = ("fc1_bandwidth", "fc2_bandwidth")
    numbers = [about[key] for key in (*CONFIG_KEYS, "hidden", "mlp_rank", *NUMBERS)]
    if about["pattern"] not in PATTERNS or not all(isinstance(about[key], list) for key in lists):
        raise ValueError("pattern")
    numbers += about["fc1_bandwidth"] + about["fc2_bandwidth"]
    if not all(type(number) is int for number in numbers):
        raise ValueError("kind")
    positive = [about[key] for key in (*CONFIG_KEYS, "hidden")]
    if min(positive) < 1 or max(positive) >= 2**31 or about["vocab_size"] > about[CONFIG_KEYS[-1]]:
        raise ValueError("dimensions")
    if about["channels"] % about["num_heads"]:
        raise ValueError("heads")
    if not 0 <= about["mlp_rank"] <= min(about["hidden"], about["channels"]):
        raise ValueError("rank")
    for key in lists:
        if len(about[key]) != about["num_layers"]:
            raise ValueError("layers")
        if not all(0 <= width < 2**31 for width in about[key]):
            raise ValueError("bandwidth")
    if not all(0 <= about[key] <= most for key, most in NUMBERS.items()):
        raise ValueError("record")
