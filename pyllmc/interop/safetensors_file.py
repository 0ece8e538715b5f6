"""safetensors files (https://github.com/huggingface/safetensors) in fp32 and bf16, by name.

The library checks every offset of a file against its size before a tensor is touched. NumPy has no
bf16: such tensors are float32 here, whose upper half is what the file holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, TensorSpec, deserialize, safe_open, serialize_file

from pyllmc.errors import FormatError, WriteError

Floats = NDArray[np.float32]
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class TensorInfo:
    """What a file's header says of a tensor; `dtype` as safetensors spells it ("F32", "BF16")."""

    dtype: str
    shape: tuple[int, ...]


def write_safetensors(
    path: Path, tensors: Mapping[str, Floats], metadata: dict[str, str], *, bf16: bool = False
) -> None:
    """Write float32 arrays, or with `bf16` their upper halves: the values must be bf16's.

    Streams from the arrays and syncs; `path` is written in place, so name a file that nobody reads
    yet. Raises WriteError.
    """
    arrays = {name: _stored(array, bf16) for name, array in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if bf16 else "float32",
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    try:
        serialize_file(specs, path, metadata=metadata)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    except (SafetensorError, OSError) as error:
        raise WriteError(f"could not write {path}: {error}") from error


def _stored(array: Floats, bf16: bool) -> NDArray[np.generic]:
    array = np.ascontiguousarray(array, "<f4")
    if not bf16:
        return array
    bits = array.view("<u4")
    if (bits & 0xFFFF).any():
        raise ValueError("values with more than bf16's bits")
    return (bits >> 16).astype("<u2")


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors that a file holds and its metadata. Raises FormatError."""
    try:
        with safe_open(path, "numpy") as file:
            infos = {}
            for name in file.keys():  # noqa: SIM118  (no mapping)
                part = file.get_slice(name)
                infos[name] = TensorInfo(part.get_dtype(), tuple(part.get_shape()))
            return infos, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def read_tensors(path: Path) -> dict[str, Floats]:
    """Every tensor of type F32, F16 or BF16 as float32; others are left out. Raises FormatError."""
    try:
        stored: list[tuple[str, Any]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    tensors: dict[str, Floats] = {}
    while stored:
        name, spec = stored.pop()
        if spec["dtype"] not in _DTYPES:
            continue
        array: NDArray[Any] = np.frombuffer(spec["data"], _DTYPES[spec["dtype"]])
        array = array.reshape(spec["shape"])
        if spec["dtype"] == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        tensors[name] = array.astype(np.float32, copy=False)
    return tensors


def _unreadable(path: Path, error: Exception) -> FormatError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return FormatError(f"could not read {path} as safetensors: {reason}")
