"""Token and tokenizer files in Python (token_file.py, tokenizer_file.py, statistics.py)."""

import math

import numpy as np
import pytest

from pyllmc.data import token_file
from pyllmc.data.statistics import describe, unigram_entropy
from pyllmc.data.token_file import HEADER_BYTES, read_tokens, token_file_writer
from pyllmc.data.tokenizer_file import read_tokenizer_file, write_tokenizer_file
from pyllmc.errors import FormatError, UsageError


def write(path, *blocks):
    with token_file_writer(path) as writer:
        for block in blocks:
            writer.append(np.array(block, dtype=np.uint16))
    return path


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "a_train.bin", [1, 2], [65535])


def test_the_file_has_the_layout_of_the_format(good):
    data = good.read_bytes()
    header = np.frombuffer(data[:1024], dtype="<i4")
    assert header[:4].tolist() == [20240520, 1, 3, 0]
    assert not header[3:].any()
    assert data[1024:] == b"\x01\x00\x02\x00\xff\xff"


def test_what_was_written_is_read(good, tmp_path):
    assert read_tokens(good).tolist() == [1, 2, 65535]
    assert read_tokens(write(tmp_path / "empty.bin")).size == 0


def test_a_block_that_is_not_contiguous_is_written_in_its_order(tmp_path):
    with token_file_writer(tmp_path / "a.bin") as writer:
        writer.append(np.arange(10, dtype=np.uint16)[::3])
    assert read_tokens(tmp_path / "a.bin").tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_cut_header_is_refused(good, size):
    good.write_bytes(good.read_bytes()[:size])
    with pytest.raises(FormatError, match=f"{size:,} bytes, fewer than"):
        read_tokens(good)


@pytest.mark.parametrize("change", [-2, -1, 1, 4096])
def test_a_size_that_disagrees_with_the_count_is_refused(good, change):
    data = good.read_bytes()
    good.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(FormatError, match="3 tokens take 1,030"):
        read_tokens(good)


@pytest.mark.parametrize(
    ("slot", "value"),
    [(0, 20240801), (0, 20240520 << 8 & 0x7FFFFFFF), (1, 0), (1, 7), (2, -1), (2, 2**31 - 1)],
    ids=["llama-3", "other magic", "version 0", "version 7", "count -1", "count 2^31-1"],
)
def test_a_wrong_header_is_refused(good, slot, value):
    data = bytearray(good.read_bytes())
    data[4 * slot : 4 * slot + 4] = np.int32(value).tobytes()
    good.write_bytes(data)
    with pytest.raises(FormatError):
        read_tokens(good)


def test_a_missing_file_is_a_format_error(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        read_tokens(tmp_path / "none.bin")


def test_more_tokens_than_the_header_can_count_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "MAX_TOKENS", 4)
    with pytest.raises(UsageError, match="at most 4 tokens"):
        write(tmp_path / "a.bin", [1, 2, 3], [4, 5])
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_file_layout(tmp_path):
    write_tokenizer_file(tmp_path / "t.bin", [b"a", b"\0", b"\xff" * 255], eot=2)
    data = (tmp_path / "t.bin").read_bytes()
    assert np.frombuffer(data[:20], dtype="<u4").tolist() == [20240328, 2, 3, 2, 0]
    assert data[1024:] == b"\x01a\x01\x00\xff" + b"\xff" * 255
    assert read_tokenizer_file(tmp_path / "t.bin") == ([b"a", b"\0", b"\xff" * 255], 2)


@pytest.mark.parametrize("length", [0, 256])
def test_a_token_that_does_not_fit_its_length_byte_is_refused(length, tmp_path):
    with pytest.raises(UsageError, match=f"token 1 has {length} bytes"):
        write_tokenizer_file(tmp_path / "t.bin", [b"a", b"b" * length], eot=0)


@pytest.mark.parametrize("size", [3, 1024, 1025, 1026, 1029])
def test_a_cut_tokenizer_file_is_refused(tmp_path, size):
    write_tokenizer_file(tmp_path / "t.bin", [b"ab", b"cd"], eot=1)
    data = (tmp_path / "t.bin").read_bytes()
    assert len(data) == 1030
    (tmp_path / "t.bin").write_bytes(data[:size])
    with pytest.raises(FormatError):
        read_tokenizer_file(tmp_path / "t.bin")


def test_a_tokenizer_file_with_more_than_its_tokens_is_refused(tmp_path):
    write_tokenizer_file(tmp_path / "t.bin", [b"ab", b"cd"], eot=1)
    with (tmp_path / "t.bin").open("ab") as stream:
        stream.write(b"\x01x")
    with pytest.raises(FormatError, match="claims 2 tokens"):
        read_tokenizer_file(tmp_path / "t.bin")


def test_unigram_entropy_of_known_frequencies(tmp_path):
    assert unigram_entropy(write(tmp_path / "u.bin", [0, 1, 2, 65535])) == pytest.approx(
        math.log(4)
    )
    assert unigram_entropy(write(tmp_path / "v.bin", [7, 7, 7])) == 0
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert unigram_entropy(write(tmp_path / "w.bin", [5, 5, 9, 5])) == pytest.approx(expected)
    with pytest.raises(UsageError, match="no tokens"):
        unigram_entropy(write(tmp_path / "x.bin"))


def test_a_description_decodes_with_the_tokenizer_beside_the_file(tmp_path):
    path = write(tmp_path / "a_val.bin", [2, 0, 1, 1])
    assert dict(describe(path, 3))["first 3"] == "2 0 1"
    write_tokenizer_file(tmp_path / "a_tokenizer.bin", [b"hel", b"lo", b"<end>"], eot=2)
    described = dict(describe(path, 3))
    assert described["first 3"] == "'<end>hello'"
    assert described["ids"] == "0 to 2, 3 different"
    assert described["vocabulary"] == "3 tokens, end-of-text 2 occurs 1 times"


def test_a_description_refuses_a_tokenizer_that_is_too_small(tmp_path):
    path = write(tmp_path / "a_val.bin", [2, 0, 5])
    write_tokenizer_file(tmp_path / "a_tokenizer.bin", [b"hel", b"lo", b"<end>"], eot=2)
    with pytest.raises(FormatError, match="the id 5"):
        dict(describe(path, 3))
