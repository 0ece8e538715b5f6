"""Checkpoints that are read, and named bad ones that are refused before memory is taken."""

from __future__ import annotations

import enum
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from formats.llmc_files import (
    CONFIG_KEYS,
    HEADER_BYTES,
    NO_META,
    SMALL,
    checkpoint_bytes,
    checkpoint_file,
    checkpoint_header,
    put,
    random_tensors,
    swapped_magic,
    tensor_shapes,
    with_word,
)

from pyllmc import _core
from pyllmc.errors import FormatError

GOOD = checkpoint_file(SMALL)
INT32_MAX = 2**31 - 1


def word(slot: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: with_word(data, slot, value)


def shape(**changes: int) -> Callable[[bytes], bytes]:
    """The header says another shape than the file has."""
    return lambda data: checkpoint_header(SMALL | changes).tobytes() + data[HEADER_BYTES:]


class Bad(enum.Enum):
    """One defect each: how the good file is changed, and what the message must say."""

    EMPTY = (lambda data: b"", ["has 0 bytes", "1024"])
    HEADER_ONLY = (lambda data: data[:HEADER_BYTES], ["has 1024 bytes", str(len(GOOD))])
    ONE_BYTE_LESS = (lambda data: data[:-1], [str(len(GOOD) - 1), str(len(GOOD))])
    ONE_BYTE_MORE = (lambda data: data + b"\0", [str(len(GOOD) + 1), str(len(GOOD))])
    ONE_PAGE_MORE = (lambda data: data + bytes(4096), [str(len(GOOD) + 4096), str(len(GOOD))])
    MAGIC_ZERO = (word(0, 0), ["magic number 0", "20240326"])
    MAGIC_OF_TOKENS = (word(0, 20240520), ["magic number 20240520", "20240326"])
    MAGIC_SWAPPED = (swapped_magic, ["byte-swapped", "20240326", "little-endian"])
    VERSION_0 = (word(1, 0), ["version 0", "expected 3 (fp32) or 5 (bf16)"])
    VERSION_1 = (word(1, 1), ["version 1", "expected 3"])
    VERSION_4 = (word(1, 4), ["version 4", "expected 3"])
    # A bf16 file of this shape has half the bytes behind its header.
    VERSION_5_OF_FP32_SIZE = (
        word(1, 5),
        [str(len(GOOD)), str(checkpoint_bytes(SMALL, "bf16"))],
    )
    VERSION_3_OF_BF16_SIZE = (
        lambda data: with_word(checkpoint_file(SMALL, precision="bf16"), 1, 3),
        [str(len(GOOD)), str(checkpoint_bytes(SMALL, "bf16"))],
    )
    VERSION_99 = (word(1, 99), ["version 99", "expected 3"])
    V_ABOVE_VP = (shape(vocab_size=17), ["V = 17", "Vp = 16"])
    NH_NOT_DIVIDING_C = (shape(num_heads=3), ["C = 4", "NH = 3"])
    ANOTHER_C = (
        shape(channels=6),
        [str(len(GOOD)), str(checkpoint_bytes(SMALL | {"channels": 6}))],
    )
    # fcw alone has 4 L C^2 > 2^63 elements.
    ELEMENTS_OVERFLOW = (
        shape(num_layers=INT32_MAX, num_heads=1, channels=INT32_MAX),
        [str(len(GOOD)), "2^63 or more"],
    )
    # The 2^61 elements of wte fit 63 bits, their bytes do not.
    BYTES_OVERFLOW = (
        shape(padded_vocab_size=INT32_MAX, num_heads=1, channels=2**30),
        [str(len(GOOD)), "2^63 or more"],
    )
    # No tensor takes more than 2^62 bytes, together they take 3 * 2^62.
    SUM_OVERFLOW = (
        shape(num_layers=1, num_heads=1, channels=2**29),
        [str(len(GOOD)), "2^63 or more"],
    )
    # The tensors take 2^66 bytes: nothing in 64-bit arithmetic, so the sizes would agree.
    SUM_WRAPS_TO_ZERO = (
        lambda data: shape(
            num_layers=1,
            num_heads=1,
            channels=2**30,
            padded_vocab_size=2**31 - 1,
            max_seq_len=2**31 - 14,
        )(data)[:HEADER_BYTES],
        ["has 1024 bytes", "2^63 or more"],
    )
    # 65536 * 65536 elements are 0 in 32-bit arithmetic.
    ZERO_IN_32_BITS = (
        shape(padded_vocab_size=65536, channels=65536),
        [
            str(len(GOOD)),
            str(checkpoint_bytes(SMALL | {"padded_vocab_size": 65536, "channels": 65536})),
        ],
    )
    STEP_NEGATIVE = (word(8, -1), ["step -1", "[8]"])
    EXTENSION_NEWER = (word(9, 2), ["version 2", "[9]"])
    FC1_BANDWIDTH_NEGATIVE = (
        lambda data: with_word(with_word(data, 9, 1), 10, -256),
        ["fc1 bandwidth -256", "[10]"],
    )
    FC2_BANDWIDTH_NEGATIVE = (
        lambda data: with_word(with_word(data, 9, 1), 11, -(2**31)),
        ["fc2 bandwidth -2147483648", "[11]"],
    )


DIMENSIONS = dict(zip(("maxT", "V", "L", "NH", "C", "Vp"), CONFIG_KEYS, strict=True))


def refuse(path: Path, fragments: list[str]) -> None:
    with pytest.raises(FormatError) as caught:
        _core.read_checkpoint_header(path)
    for fragment in [str(path), *fragments]:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("bad", Bad, ids=lambda bad: bad.name)
def test_bad_file_is_refused_with_the_value(bad: Bad, tmp_path: Path) -> None:
    change, fragments = bad.value
    refuse(put(tmp_path / "model.bin", change(GOOD)), fragments)


@pytest.mark.parametrize("value", [0, -1, -(2**31)])
@pytest.mark.parametrize("letters", DIMENSIONS)
def test_dimension_below_one_is_refused(letters: str, value: int, tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", shape(**{DIMENSIONS[letters]: value})(GOOD))
    refuse(path, [f"{letters} = {value},"])


@pytest.mark.parametrize("letters", DIMENSIONS)
def test_largest_dimension_is_refused(letters: str, tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", shape(**{DIMENSIONS[letters]: INT32_MAX})(GOOD))
    refuse(path, [str(INT32_MAX)])


def test_file_cut_at_any_byte_of_the_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for length in range(HEADER_BYTES):
        refuse(put(path, GOOD[:length]), [f"has {length} bytes"])


def test_file_cut_at_any_tensor_boundary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    at = HEADER_BYTES
    for dimensions in tensor_shapes(SMALL).values():
        for length in (at - 1, at, at + 1):
            refuse(put(path, GOOD[:length]), [f"has {length} bytes"])
        at += 4 * int(np.prod(dimensions))
    assert at == len(GOOD)


def test_file_of_the_size_that_64_bit_products_give_is_refused(tmp_path: Path) -> None:
    config = SMALL | {"num_layers": 16, "num_heads": 1, "channels": 2**30}
    path = put(tmp_path / "model.bin", checkpoint_header(config).tobytes())
    sizes = [math.prod(dimensions) % 2**64 for dimensions in tensor_shapes(config).values()]
    assert sizes.count(0) == 4  # qkvw, attprojw, fcw and fcprojw
    try:
        os.truncate(path, HEADER_BYTES + 4 * sum(sizes))  # 1 TB of hole
    except OSError as error:
        pytest.skip(f"this file system takes no file of 1 TB: {error}")
    refuse(path, ["2^63 or more"])


def test_missing_file_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "model.bin", ["No such file"])


def test_folder_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, ["is a folder", "expected a file"])


def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.bin")
    refuse(tmp_path / "model.bin", ["not a plain file"])


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", GOOD)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads everything
    try:
        refuse(path, ["Permission denied"])
    finally:
        os.seteuid(user)


# Everything above in a process that may take little more memory than it has.
LIMITED = """
import re, resource, sys
import numpy
from pyllmc import _core
from pyllmc.errors import FormatError
size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, size + 2**25))
for path in sys.argv[1:]:
    for read in (_core.read_checkpoint_header, _core.read_checkpoint):
        try:
            read(path)
        except FormatError as error:
            print("refused")
        except MemoryError as error:
            print("out of memory")
        else:
            print("accepted")
"""


def outcomes(*paths: Path) -> list[str]:
    command = [sys.executable, "-c", LIMITED, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[
        :-1
    ]


def test_bad_files_are_refused_within_32_mib(tmp_path: Path) -> None:
    paths = []
    for bad in Bad:
        paths.append(put(tmp_path / f"{bad.name}.bin", bad.value[0](GOOD)))
    for name, key in DIMENSIONS.items():
        paths.append(put(tmp_path / f"{name}.bin", shape(**{key: INT32_MAX})(GOOD)))
    assert outcomes(*paths) == ["refused"] * (2 * len(paths))


def test_header_of_a_large_file_is_read_within_32_mib(tmp_path: Path) -> None:
    config = SMALL | {"vocab_size": 1000, "padded_vocab_size": 2**26}
    path = put(tmp_path / "model.bin", checkpoint_header(config).tobytes())
    os.truncate(path, checkpoint_bytes(config))  # 1 GiB of hole
    assert outcomes(path) == ["accepted", "out of memory"]


def test_every_dimension_and_tensor_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", GOOD)
    header, tensors = _core.read_checkpoint(path)
    assert header == SMALL | NO_META == _core.read_checkpoint_header(str(path))
    expected = random_tensors(SMALL)
    assert list(tensors) == list(expected)
    for name, values in expected.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)


def test_meta_slots_are_read(tmp_path: Path) -> None:
    meta = {
        "step": INT32_MAX,
        "fc1_bandwidth": 256,
        "fc2_bandwidth": INT32_MAX,
        "init_seed": 2**32 - 1,
        "data_seed": 42,
    }
    path = put(tmp_path / "model.bin", checkpoint_file(SMALL, **meta))
    assert _core.read_checkpoint_header(path) == SMALL | NO_META | meta | {"has_meta": True}


def test_step_of_a_plain_file_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", checkpoint_file(SMALL, step=7))
    assert _core.read_checkpoint_header(path) == SMALL | NO_META | {"step": 7}


def test_slots_that_only_the_extension_uses_are_ignored_without_it(tmp_path: Path) -> None:
    path = put(tmp_path / "model.bin", with_word(GOOD, 10, -5))
    assert _core.read_checkpoint_header(path) == SMALL | NO_META


def test_weights_that_are_not_finite_are_read(tmp_path: Path) -> None:
    odd = np.array([np.nan, np.inf, -np.inf], "<f4").tobytes()
    data = GOOD[:HEADER_BYTES] + odd + GOOD[HEADER_BYTES + len(odd) :]
    _, tensors = _core.read_checkpoint(put(tmp_path / "model.bin", data))
    assert tensors["wte"].tobytes()[: len(odd)] == odd


def test_published_shape_has_its_published_size(tmp_path: Path) -> None:
    config = dict(zip(CONFIG_KEYS, (256, 50257, 4, 4, 128, 50304), strict=True))
    path = put(tmp_path / "model.bin", checkpoint_header(config).tobytes())
    os.truncate(path, 29_061_120)
    assert _core.read_checkpoint_header(path)["channels"] == 128
