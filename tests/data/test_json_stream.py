"""Objects out of a large JSON array (json_stream.py)."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyllmc.data import json_stream
from pyllmc.data.json_stream import read_objects
from pyllmc.errors import FormatError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def read(data, name="shard"):
    return list(read_objects(io.BytesIO(data), name))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=6),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_any_array_is_read_as_json_reads_it_whole(objects, size, indent, ascii_only):
    data = json.dumps(objects, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_READ", size)
        assert read(data.encode("utf-8", "replace")) == json.loads(data.encode("utf-8", "replace"))


def test_objects_come_before_the_rest_is_read(monkeypatch):
    monkeypatch.setattr(json_stream, "_READ", 64)
    stream = io.BytesIO(json.dumps([{"story": "x" * 40}] * 1000).encode())
    objects = read_objects(stream, "shard")
    next(objects)
    assert stream.tell() <= 128


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends after object 0"),
        (b'{"a": 1}', "not with a JSON array"),
        (b"<html>", "not with a JSON array"),
        (b'[{"a": 1}, {"a": 2', "not valid JSON after object 1"),
        (b'[{"a": 1}, {"a" 2}]', "not valid JSON after object 1"),
        (b'[{"a": 1}', "ends after object 1"),
        (b'[{"a": 1}, 5]', "where a JSON object was expected"),
        (b'[{"a": "\xff"}]', "not UTF-8"),
    ],
    ids=["empty", "object", "html", "cut", "colon", "no end", "number", "bytes"],
)
def test_what_is_not_an_array_of_objects_is_refused(data, message):
    with pytest.raises(FormatError, match=f"^shard.*{message}"):
        read(data)


def test_an_object_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(json_stream, "_READ", 100)
    monkeypatch.setattr(json_stream, "MAX_OBJECT", 1000)
    stream = io.BytesIO(b'[{"a": "' + b"x" * 100_000)
    with pytest.raises(FormatError):
        list(read_objects(stream, "shard"))
    assert stream.tell() < 2000
