"""Token shards: which files are refused, what is read, what counts as the same data."""

from __future__ import annotations

import enum
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from formats.llmc_files import HEADER_BYTES, put, swapped_magic, token_file, with_word

from pyllmc import _core
from pyllmc.errors import FormatError, UsageError

GOOD = token_file(range(100))
PIECE = 2**19  # tokens that check_range reads at a time


class Bad(enum.Enum):
    """One defect each: the file's bytes, and what the message must say."""

    EMPTY = (b"", ["has 0 bytes", "1024"])
    HEADER_ONLY = (GOOD[:HEADER_BYTES], ["has 1024 bytes", "100 tokens", "1224"])
    ONE_BYTE_LESS = (GOOD[:-1], ["has 1223 bytes", "100 tokens", "1224"])
    ONE_BYTE_MORE = (GOOD + b"\0", ["has 1225 bytes", "100 tokens", "1224"])
    ONE_PAGE_MORE = (GOOD + bytes(4096), ["has 5320 bytes", "100 tokens", "1224"])
    COUNT_ONE_LESS = (with_word(GOOD, 2, 99), ["has 1224 bytes", "99 tokens", "1222"])
    COUNT_ONE_MORE = (with_word(GOOD, 2, 101), ["has 1224 bytes", "101 tokens", "1226"])
    COUNT_NEGATIVE = (with_word(GOOD, 2, -1), ["token count of -1"])
    COUNT_LARGEST = (with_word(GOOD, 2, 2**31 - 1), ["2147483647 tokens", "4294968318"])
    # 2^31 + 100 tokens are 200 bytes in 32-bit arithmetic.
    COUNT_WRAPS = (with_word(GOOD, 2, 2**31 + 100), ["token count of -2147483548"])
    MAGIC_ZERO = (with_word(GOOD, 0, 0), ["magic number 0", "20240520"])
    MAGIC_OF_UINT32_TOKENS = (with_word(GOOD, 0, 20240801), ["20240801", "20240520"])
    MAGIC_SWAPPED = (swapped_magic(GOOD), ["byte-swapped", "20240520", "little-endian"])
    VERSION_0 = (with_word(GOOD, 1, 0), ["version 0", "expected 1"])
    VERSION_2 = (with_word(GOOD, 1, 2), ["version 2", "expected 1"])
    VERSION_7 = (with_word(GOOD, 1, 7), ["version 7", "expected 1"])


def refuse(path: Path, fragments: list[str]) -> None:
    with pytest.raises(FormatError) as caught:
        _core.TokenShards(path)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("bad", Bad, ids=lambda bad: bad.name)
def test_bad_file_is_refused_with_the_value(bad: Bad, tmp_path: Path) -> None:
    data, fragments = bad.value
    path = put(tmp_path / "x_train.bin", data)
    refuse(path, [str(path), *fragments])


def test_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x_train.bin"
    for length in range(len(GOOD)):
        refuse(put(path, GOOD[:length]), [str(path), f"has {length} bytes"])


def test_one_bad_shard_among_good_ones_is_named(tmp_path: Path) -> None:
    for name in ("x_0.bin", "x_2.bin"):
        put(tmp_path / name, GOOD)
    bad = put(tmp_path / "x_1.bin", GOOD[:-2])
    refuse(tmp_path / "x_*.bin", [str(bad)])


@pytest.mark.parametrize("name", ["missing.bin", "missing_*.bin", "*/none.bin", "[z]*.bin"])
def test_nothing_that_matches_is_refused_with_the_pattern(name: str, tmp_path: Path) -> None:
    refuse(tmp_path / name, [f"'{tmp_path / name}'", "no token file matches"])


def test_folder_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, ["is a folder", str(tmp_path)])


def test_shards_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["x_000010.bin", "x_000002.bin", "x_B.bin", "x_a.bin"]
    for i, name in enumerate(names):
        put(tmp_path / name, token_file([i] * (i + 1)))
    put(tmp_path / "other.bin", GOOD)
    shards = _core.TokenShards(str(tmp_path / "x_*.bin"))
    assert shards.files == [str(tmp_path / name) for name in sorted(names)]
    assert shards.shard_tokens == [2, 1, 3, 4]
    assert shards.tokens == 10
    assert [shards.read(i, 0, 1)[0] for i in range(4)] == [1, 0, 2, 3]


def test_name_with_brackets_is_taken_as_it_is(tmp_path: Path) -> None:
    path = put(tmp_path / "x[1].bin", GOOD)
    put(tmp_path / "x1.bin", token_file([5]))
    assert _core.TokenShards(path).files == [str(path)]


def test_file_without_tokens_is_allowed(tmp_path: Path) -> None:
    shards = _core.TokenShards(put(tmp_path / "x.bin", token_file([])))
    assert (shards.tokens, shards.read(0, 0, 0).size) == (0, 0)
    shards.check_range(1)


@pytest.mark.parametrize(("offset", "count"), [(0, 100), (0, 0), (100, 0), (99, 1), (13, 50)])
def test_range_is_read(offset: int, count: int, tmp_path: Path) -> None:
    shards = _core.TokenShards(put(tmp_path / "x.bin", GOOD))
    tokens = shards.read(0, offset, count)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == list(range(offset, offset + count))


@pytest.mark.parametrize(
    ("shard", "offset", "count"),
    [(0, 0, 101), (0, 100, 1), (0, -1, 1), (0, 0, -1), (0, 1, 2**63 - 1), (1, 0, 0), (-1, 0, 0)],
)
def test_range_outside_the_shard_is_refused(
    shard: int, offset: int, count: int, tmp_path: Path
) -> None:
    shards = _core.TokenShards(put(tmp_path / "x.bin", GOOD))
    with pytest.raises(UsageError, match=r"(was|were) asked for"):
        shards.read(shard, offset, count)


def test_shard_of_4_gib_is_read_at_its_end(tmp_path: Path) -> None:
    path = put(tmp_path / "x.bin", with_word(token_file([]), 2, 2**31 - 1))
    size = HEADER_BYTES + 2 * (2**31 - 1)
    os.truncate(path, size)  # a hole
    with path.open("r+b") as stream:
        for token, value in ((2**30 + 5, 7), (2**31 - 2, 9)):
            stream.seek(HEADER_BYTES + 2 * token)
            stream.write(struct.pack("<H", value))
    shards = _core.TokenShards(path)
    assert shards.tokens == 2**31 - 1
    assert shards.read(0, 2**30 + 4, 3).tolist() == [0, 7, 0]
    assert shards.read(0, 2**31 - 3, 2).tolist() == [0, 9]
    with pytest.raises(UsageError):
        shards.read(0, 2**31 - 2, 2)


class Change(enum.Enum):
    """What happens to a file between opening and reading."""

    CUT = "cut"
    GROWN = "grown"
    REPLACED = "replaced"
    REWRITTEN = "rewritten"
    REMOVED = "removed"


@pytest.mark.parametrize("change", Change, ids=lambda change: change.name)
def test_file_changed_after_opening_is_refused(change: Change, tmp_path: Path) -> None:
    path = put(tmp_path / "x.bin", GOOD)
    shards = _core.TokenShards(path)
    shards.read(0, 0, 100)
    before = path.stat()
    if change is Change.CUT:
        os.truncate(path, len(GOOD) - 2)
    elif change is Change.GROWN:
        os.truncate(path, len(GOOD) + 2)
    elif change is Change.REPLACED:
        other = put(tmp_path / "y.bin", GOOD)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
    elif change is Change.REWRITTEN:
        path.write_bytes(token_file([5] * 100))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    else:
        path.unlink()
    for use in (lambda: shards.read(0, 0, 1), lambda: shards.check_range(50257)):
        with pytest.raises(
            FormatError, match="No such file" if change is Change.REMOVED else "use"
        ):
            use()
    with pytest.raises(FormatError, match=r"x\.bin"):
        _ = shards.fingerprint


@pytest.mark.parametrize("at", [0, 1, PIECE - 1, PIECE, 2 * PIECE, 2 * PIECE + 4])
def test_token_outside_the_vocabulary_is_found(at: int, tmp_path: Path) -> None:
    tokens = np.full(2 * PIECE + 5, 50256, np.uint16)
    tokens[at] = 50257
    tokens[at + 1 :] = 60000  # the first is named, not the largest
    put(tmp_path / "x_0.bin", GOOD)
    path = put(tmp_path / "x_1.bin", token_file(tokens))
    shards = _core.TokenShards(tmp_path / "x_*.bin")
    with pytest.raises(FormatError) as caught:
        shards.check_range(50257)
    for fragment in (str(path), "token id 50257", f"position {at},", "below 50257"):
        assert fragment in str(caught.value)


def test_tokens_inside_the_vocabulary_pass(tmp_path: Path) -> None:
    shards = _core.TokenShards(put(tmp_path / "x.bin", token_file([0, 1023, 65535])))
    shards.check_range(65536)
    shards.check_range(100_000)
    for vocab_size, position in ((65535, 2), (1023, 1), (0, 0)):
        with pytest.raises(FormatError, match=f"position {position},"):
            shards.check_range(vocab_size)


def fnv1a(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def test_fingerprint_covers_names_sizes_and_every_byte(tmp_path: Path) -> None:
    covered = b""
    for name, data in (("a.bin", GOOD), ("b.bin", token_file(np.arange(700_000) % 65536))):
        put(tmp_path / name, data)
        covered += name.encode() + b"\0" + struct.pack("<qI", len(data), zlib.crc32(data))
    assert _core.TokenShards(tmp_path / "*.bin").fingerprint == fnv1a(covered)


def test_fingerprint_of_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    tokens = np.arange(200_000) % 50257
    path = put(tmp_path / "x.bin", token_file(tokens))
    before = _core.TokenShards(path).fingerprint
    tokens[100_000] ^= 1
    with open(path, "r+b") as stream:  # in place: the same file, size and ends
        stream.seek(HEADER_BYTES + 2 * 100_000)
        stream.write(int(tokens[100_000]).to_bytes(2, "little"))
    assert _core.TokenShards(path).fingerprint != before


def test_fingerprint_tells_data_apart_but_not_folders(tmp_path: Path) -> None:
    base = np.arange(200_000) % 50257

    def fingerprint(name: str, tokens: np.ndarray) -> str:
        return _core.TokenShards(put(tmp_path / name, token_file(tokens))).fingerprint

    original = fingerprint("x.bin", base)
    assert fingerprint("x.bin", base) == original
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "x.bin", tmp_path / "copy" / "x.bin")
    assert _core.TokenShards(tmp_path / "copy" / "x.bin").fingerprint == original
    first, last, middle = base.copy(), base.copy(), base.copy()
    first[0] ^= 1
    last[-1] ^= 1
    middle[100_000] ^= 1
    different = [
        fingerprint("y.bin", base),
        fingerprint("x.bin", first),
        fingerprint("x.bin", last),
        fingerprint("x.bin", middle),
        fingerprint("x.bin", base[:-1]),
    ]
    assert len({original, *different}) == 6
