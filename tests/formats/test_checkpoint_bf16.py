"""llm.c's version 5: every bf16 is read exactly, every fp32 is rounded to the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formats.llmc_files import (
    HEADER_BYTES,
    SMALL,
    checkpoint_bytes,
    checkpoint_file,
    from_bf16,
    put,
    random_tensors,
    read_checkpoint,
    tensor_shapes,
    to_bf16,
)

from pyllmc import _core
from pyllmc.errors import UsageError

BF16 = SMALL | {"precision": "bf16"}
# wte takes every bf16 once.
EVERY = SMALL | {"vocab_size": 2**14, "padded_vocab_size": 2**14}


def with_wte(values: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of EVERY's shape whose wte holds `values`, repeated as often as it takes."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(EVERY).items()}
    tensors["wte"] = np.resize(values, (2**14, 4))
    return tensors


def written_wte(values: np.ndarray, path: Path) -> np.ndarray:
    _core.write_checkpoint(path, EVERY | {"precision": "bf16"}, with_wte(values))
    return np.frombuffer(path.read_bytes(), "<u2", values.size, HEADER_BYTES)


def test_the_numpy_rounding_is_known_at_its_corners() -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.0, 3e38], np.float32)
    assert to_bf16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x8000, 0x7F62]
    assert to_bf16(np.array([np.finfo("f4").max, 1e-45], "f4")).tolist() == [0x7F80, 0]


def test_file_is_byte_for_byte_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    _core.write_checkpoint(path, BF16 | {"step": 7}, random_tensors(SMALL))
    assert path.read_bytes() == checkpoint_file(SMALL, precision="bf16", step=7)
    assert path.stat().st_size == checkpoint_bytes(SMALL, "bf16")


def test_file_is_read_as_fp32_and_says_what_it_is(tmp_path: Path) -> None:
    data = checkpoint_file(SMALL, precision="bf16", fc1_bandwidth=4, data_seed=3)
    header, tensors = _core.read_checkpoint(put(tmp_path / "model.bin", data))
    expected_header, expected = read_checkpoint(data)
    assert header == expected_header
    assert (header["precision"], header["fc1_bandwidth"]) == ("bf16", 4)
    for name, values in expected.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)


def test_every_bf16_is_read_and_written_with_its_bits(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype="<u2")  # both zeros, subnormals, infinities and every NaN
    assert written_wte(from_bf16(every), tmp_path / "a.bin").tolist() == every.tolist()
    header, tensors = _core.read_checkpoint(tmp_path / "a.bin")
    assert tensors["wte"].tobytes() == from_bf16(every).tobytes()
    _core.write_checkpoint(tmp_path / "b.bin", header, tensors)
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_rounding_is_to_the_nearest_and_ties_go_to_even(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 2**15, np.uint32)
    bits[:4096] = bits[:4096] & 0xFFFF0000 | 0x8000  # ties
    bits[4096:8192] = bits[4096:8192] & 0xFFFF0000 | rng.choice([0x7FFF, 0x8001], 4096)
    bits[8192:8200] = 0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0x7F800000, 1, 0x8000, 0x8001, 0x80008000
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    assert written_wte(values, tmp_path / "a.bin").tolist() == to_bf16(values).tolist()


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF80FFFF, 0x7FC12345])
def test_a_nan_stays_one(bits: int, tmp_path: Path) -> None:
    values = np.array([bits], np.uint32).view(np.float32)
    written = int(written_wte(values, tmp_path / "a.bin")[0])
    assert written & 0x7F80 == 0x7F80
    assert written & 0x7F
    assert written >> 15 == bits >> 31


def test_a_tensor_longer_than_the_pieces_it_is_converted_in(tmp_path: Path) -> None:
    values = to_bf16(np.random.default_rng(1).standard_normal(2**16, np.float32))
    assert written_wte(from_bf16(values), tmp_path / "a.bin").tolist() == values.tolist()
    assert _core.read_checkpoint(tmp_path / "a.bin")[1]["wte"].ravel().tolist() == (
        from_bf16(values).tolist()
    )


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision is 'fp16', expected 'fp32' or 'bf16'"):
        _core.write_checkpoint(
            tmp_path / "a.bin", SMALL | {"precision": "fp16"}, random_tensors(SMALL)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_model_computes_with_the_weights_of_a_bf16_file(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    rounded = {name: from_bf16(to_bf16(values)) for name, values in tensors.items()}
    _core.write_checkpoint(tmp_path / "bf16.bin", BF16, tensors)
    _core.write_checkpoint(tmp_path / "fp32.bin", SMALL, rounded)
    tokens = np.arange(6, dtype=np.int32)
    logits = [
        _core.Model(str(tmp_path / f"{name}.bin")).logits(tokens) for name in ("bf16", "fp32")
    ]
    assert logits[0].tobytes() == logits[1].tobytes()
