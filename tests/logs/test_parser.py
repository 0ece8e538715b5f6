"""The C++ parser: every dialect, and a named case for every defect a log can have."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyllmc import _core
from pyllmc.errors import FormatError
from pyllmc.logs import SPLITS

NAN = math.nan


def losses(text: bytes, piece: int = 1 << 20) -> dict[str, dict[int, float]]:
    splits = _core.parse_log_text(text, piece)["splits"]
    return {
        name: dict(zip(s["step"].tolist(), s["loss"].tolist(), strict=True))
        for name, s in splits.items()
        if len(s["step"])
    }


def counts(text: bytes) -> dict[str, int]:
    return _core.parse_log_text(text)["counts"]


DIALECTS = {
    "ours": (
        b"s:0 tel:10.8544\ns:0 trl:10.9001\ns:1 trl:10.5000\ns:2 tel:9.1000\ns:2 tsl:9.2000\n"
        b"s:2 tsb:8.1000\n",
        {
            "val": {0: 10.8544, 2: 9.1},
            "train": {0: 10.9001, 1: 10.5},
            "test": {2: 9.2},
            "train_subset": {2: 8.1},
        },
    ),
    "llm.c": (
        b"s:250 tel:6.4628\ns:250 trl:6.5000 lr:0.000600 norm:1.23\ns:250 eval:0.2447\n",
        {"val": {250: 6.4628}, "train": {250: 6.5}},
    ),
    "modded-nanogpt": (
        b"step:0/5100 val_loss:16.0297 train_time:0ms step_avg:nanms\n"
        b"step:1/5100 train_loss:16.0220 train_time:284ms step_avg:nanms\n"
        b"step:125/5100 val_loss:4.9850 train_time:36262ms step_avg:315.32ms\n",
        {"val": {0: 16.0297, 125: 4.985}, "train": {1: 16.022}},
    ),
    "jsonl": (
        b'{"type":"settings","steps":2,"note":{"a":[1,"}"]}}\n'
        b'{"type":"val","step":0,"loss":10.854401588439941,"tokens":81920}\n'
        b'{"type": "train", "step": 0, "loss": 10.9, "lr": 0.0003, "grad_norm": 1.5}\n'
        b'{"type":"sample","step":1,"text":"He said \\"s:1 tel:3\\" {and left"}\n'
        b'{"type":"test","step":2,"loss":9.25,"tokens":81920}\n{"type":"end","step":2}\n'
        b'{"type":"train_subset","step":2,"loss":8.125,"tokens":4096}\n',
        {
            "val": {0: 10.854401588439941},
            "train": {0: 10.9},
            "test": {2: 9.25},
            "train_subset": {2: 8.125},
        },
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialect(dialect: str) -> None:
    text, expected = DIALECTS[dialect]
    assert losses(text) == expected
    assert counts(text)["skipped"] == 0


def test_further_values_of_a_line_in_any_order() -> None:
    text = b"s:7 norm:0.5 trl:3.25 lr:1e-4 new_key:what_ever\n"
    train = _core.parse_log_text(text)["splits"]["train"]
    assert (train["lr"][0], train["grad_norm"][0], train["loss"][0]) == (1e-4, 0.5, 3.25)
    assert np.isnan(train["tokens_per_second"][0])


def test_two_losses_on_one_line() -> None:
    assert losses(b"s:7 trl:3.25 tel:3.5\n") == {"train": {7: 3.25}, "val": {7: 3.5}}


def test_an_accuracy_is_no_loss_and_no_defect() -> None:
    n = counts(b"s:250 eval:0.2447\n")
    assert (n["other"], n["skipped"]) == (1, 0)


# Defects on a line that ends: the whole text, and what is left of it.
SKIPPED = {
    "words": b"saving checkpoint to ckpt.bin\n",
    "leading blank": b" s:1 tel:2.0000\n",
    "program text": b"print0(f's:{step} tel:{loss}')\n",
    "bare step": b"s:12\n",
    "step without digits": b"s: tel:2.0000\n",
    "step beyond int64": b"s:99999999999999999999 tel:2.0000\n",
    "negative step": b"s:-1 tel:2.0000\n",
    "fractional step": b"s:1.5 tel:2.0000\n",
    "no steps behind the slash": b"step:5/ val_loss:2.0\n",
    "empty value": b"s:1 tel:\n",
    "value of letters": b"s:1 tel:abc\n",
    "value and more": b"s:1 tel:2.0000x\n",
    "value beyond double": b"s:1 tel:1e999\n",
    "comma for a point": b"s:1 tel:2,5\n",
    "bad lr": b"s:1 trl:2.0000 lr:fast\n",
    "word without colon": b"s:1 tel:2.0000 hello\n",
    "key missing": b"s:1 :2.0000\n",
    "loss twice": b"s:1 tel:2.0000 tel:3.0000\n",
    "torn line run into the next": b"s:12 trl:4.s:13 trl:4.1234\n",
    "torn at a blank, run into the next": b"s:12 trl:4.1 s:13 tel:5.0\n",
    "torn step run into the next": b"s:1s:13 trl:4.1234\n",
    "NUL inside": b"s:1 te\0l:2.0000\n",
    "only NULs": b"\0\0\0\n",
    "UTF-16": "s:1 tel:2.0\n".encode("utf-16"),
    "json not closed": b'{"type":"val","step":1,"loss":2.0\n',
    "json with more behind": b'{"type":"val","step":1,"loss":2.0} x\n',
    "json run into the next": b'{"type":"val","st{"type":"val","step":1,"loss":2.0}\n',
    "json without a type": b'{"step":1,"loss":2.0}\n',
    "json without a step": b'{"type":"val","loss":2.0}\n',
    "json without a loss": b'{"type":"val","step":1}\n',
    "json loss as text": b'{"type":"val","step":1,"loss":"low"}\n',
    "json lone brace": b"{\n",
    "json unclosed string": b'{"type":"val\n',
    "json unclosed nesting": b'{"type":"val","a":[[[[\n',
    "latin-1": "s:1 tel:2.0 Übung\n".encode("latin-1"),
}


@pytest.mark.parametrize("defect", SKIPPED)
def test_skipped_and_counted(defect: str) -> None:
    text = SKIPPED[defect]
    n = counts(text + b"s:2 tel:1.5000\n")
    assert n["skipped"] >= 1
    assert n["torn"] == 0
    assert losses(text + b"s:2 tel:1.5000\n") == {"val": {2: 1.5}}


TAKEN = {
    "CRLF": (b"s:1 tel:2.5\r\ns:2 tel:2.25\r\n", {1: 2.5, 2: 2.25}),
    "blank lines": (b"\n\ns:1 tel:2.5\n \t\r\n\n", {1: 2.5}),
    "blanks at the end": (b"s:1 tel:2.5  \t\n", {1: 2.5}),
    "several blanks": (b"s:1   tel:2.5\tlr:1\n", {1: 2.5}),
    "byte order mark": (b"\xef\xbb\xbfs:1 tel:2.5\n", {1: 2.5}),
    "NULs in front": (b"\0\0\0s:1 tel:2.5\n", {1: 2.5}),
    "leading zeros": (b"s:0012 tel:2.5\n", {12: 2.5}),
    "plus sign": (b"s:1 tel:+2.5\n", {1: 2.5}),
    "exponent": (b"s:1 tel:25e-1\n", {1: 2.5}),
    "last write wins": (b"s:1 tel:9\ns:2 tel:3\ns:1 tel:2.5\n", {1: 2.5, 2: 3.0}),
    "steps out of order": (b"s:3 tel:1\ns:1 tel:2.5\n", {1: 2.5, 3: 1.0}),
}


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case: str) -> None:
    text, expected = TAKEN[case]
    found = losses(text)["val"]
    assert found == expected
    assert list(found) == sorted(found)
    assert counts(text)["skipped"] == 0


@pytest.mark.parametrize("word", [b"nan", b"-nan", b"NaN", b"nan(ind)", b"inf", b"-inf", b"INF"])
def test_not_finite_losses_stay_visible(word: bytes) -> None:
    text = b"s:1 tel:" + word + b"\n"
    value = losses(text)["val"][1]
    if b"nan" in word.lower():
        assert math.isnan(value)
    else:
        assert value == (-math.inf if word.startswith(b"-") else math.inf)
    assert counts(text)["nonfinite"] == 1


@pytest.mark.parametrize("word", [b"null", b"NaN", b"Infinity", b"-Infinity"])
def test_not_finite_losses_in_json(word: bytes) -> None:
    value = losses(b'{"type":"val","step":1,"loss":' + word + b"}\n")["val"][1]
    assert not math.isfinite(value)


def test_the_whole_later_record_replaces_the_earlier() -> None:
    train = _core.parse_log_text(b"s:1 trl:9.0 lr:0.5\ns:1 trl:2.5\n")
    assert train["counts"]["repeated"] == 1
    assert np.isnan(train["splits"]["train"]["lr"][0])


# What an unfinished last line gives: (text, loss at step 2 or None).
TORN = {
    "nothing of it": (b"s", None),
    "step only": (b"s:2", None),
    "key only": (b"s:2 te", None),
    "value missing": (b"s:2 tel:", None),
    "value cut": (b"s:2 tel:2.3", None),
    "value cut after the point": (b"s:2 tel:2.", None),
    "one decimal short": (b"s:2 tel:2.385", None),
    "whole number": (b"s:2 tel:2", None),
    "all four decimals": (b"s:2 tel:2.3852", 2.3852),
    "blank behind": (b"s:2 tel:2.3 ", 2.3),
    "carriage return behind": (b"s:2 tel:2.3\r", 2.3),
    "next key begun": (b"s:2 tel:2.3 l", 2.3),
    "next value cut": (b"s:2 tel:2.3 lr:0.0", 2.3),
    "nan": (b"s:2 tel:nan", NAN),
    "modded, unit cut": (b"step:2/9 val_loss:2.3852 train_time:12m", 2.3852),
    "json cut": (b'{"type":"val","step":2,"loss":2.38', None),
    "json not closed": (b'{"type":"val","step":2,"loss":2.3852', None),
    "json whole": (b'{"type":"val","step":2,"loss":2.3852}', 2.3852),
}


@pytest.mark.parametrize("case", TORN)
def test_unfinished_last_line(case: str) -> None:
    text, expected = TORN[case]
    text = b"s:1 tel:3.0000\n" + text
    found = losses(text)["val"]
    assert found.pop(1) == 3.0
    assert counts(text)["torn"] == counts(text)["skipped"] == int(expected is None)
    assert found.keys() == (set() if expected is None else {2})
    if expected is not None:
        assert found[2] == expected or (math.isnan(found[2]) and math.isnan(expected))


def test_an_lr_that_may_be_cut_is_dropped() -> None:
    train = _core.parse_log_text(b"s:2 trl:2.3852 lr:0.0003")["splits"]["train"]
    assert train["loss"][0] == 2.3852
    assert np.isnan(train["lr"][0])


def test_every_cut_of_a_log_gives_only_losses_of_the_whole() -> None:
    text = b"s:0 tel:10.8544\ns:0 trl:10.9001 lr:0.000300 norm:1.25\ns:10 tel:9.1250\n"
    whole = losses(text)
    for end in range(len(text)):
        for split, curve in losses(text[:end]).items():
            assert curve.items() <= whole[split].items(), text[:end]


@pytest.mark.parametrize("size", [16 << 20, (16 << 20) + 1, 40 << 20])
def test_very_long_lines(size: int) -> None:
    long = b"s:1 tel:2.5 x:" + b"y" * (size - 14)
    text = long + b"\ns:2 tel:1.5\n"
    expected = {1: 2.5, 2: 1.5} if size <= 16 << 20 else {2: 1.5}
    assert losses(text)["val"] == expected
    assert counts(text)["skipped"] == int(size > 16 << 20)
    assert counts(long)["lines"] == 1


def test_empty_log() -> None:
    assert losses(b"") == {}
    assert set(counts(b"").values()) == {0}


# The same rules once more, in Python and by regular expression, for lines that end.
_KEYS = {
    "trl": "train", "train_loss": "train", "tel": "val", "val_loss": "val", "tsl": "test",
    "test_loss": "test", "tsb": "train_subset", "train_subset_loss": "train_subset",
    "lr": "lr", "norm": "grad_norm", "grad_norm": "grad_norm",
    "tokens_per_second": "tokens_per_second",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?nan|-?inf")


def twin(line: str) -> dict[str, float] | str:
    """Values by meaning with "step", or "blank", "other", "skipped"."""
    bare = line.lstrip("\0").rstrip(" \t\r")
    if not bare:
        return "skipped" if line.startswith("\0") else "blank"
    line = bare
    match = re.fullmatch(r"(?:s:|step:)(\d+)(?:/(\d+))?((?:[ \t]+\S+)+)", line)
    if match is None or "\0" in line or int(match[1]) >= 2**63:
        return "skipped"
    if match[2] and int(match[2]) >= 2**63:
        return "skipped"
    found: dict[str, float] = {}
    for word in match[3].split():
        key, colon, value = word.partition(":")
        if not colon or not key or key in ("s", "step"):
            return "skipped"
        if key in _KEYS:
            if _KEYS[key] in found or not _NUMBER.fullmatch(value):
                return "skipped"
            found[_KEYS[key]] = float(value)
    if not found.keys() & set(SPLITS):
        return "other"
    return {"step": int(match[1]), **found}


words = st.sampled_from(
    ["s:1", "s:3", "step:2/9", "step:4", "s:", "tel:2.5", "trl:-nan", "tsl:1e2", "tel:", "lr:3e-4",
     "norm:x", "norm:1", "tsb:1.5", "val_loss:.5",
     "train_loss:4.", "x:y", ":", "a:", "s:5", "eval:0.1",
     "word", "tel:inf", "\0", "tel:+1", "tel:--1", "s:99999999999999999999", "step:1/x"]
)  # fmt: skip
lines = st.builds(
    lambda parts, blank, end: blank.join(parts) + end,
    st.lists(words, max_size=5),
    st.sampled_from([" ", "  ", "\t", ""]),
    st.sampled_from(["\n", "\r\n", " \n"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(lines, max_size=6), st.integers(1, 40))
def test_against_the_twin(text_lines: list[str], piece: int) -> None:
    expected: dict[str, dict[int, float]] = {}
    tally = dict.fromkeys(("blank", "other", "skipped"), 0)
    for line in text_lines:
        result = twin(line[:-1])
        if isinstance(result, str):
            tally[result] += 1
            continue
        for split in SPLITS:
            if split in result:
                expected.setdefault(split, {})[int(result["step"])] = result[split]
    text = "".join(text_lines).encode()
    assert repr({k: dict(sorted(v.items())) for k, v in sorted(losses(text).items())}) == repr(
        {k: dict(sorted(v.items())) for k, v in sorted(expected.items())}
    )
    n = counts(text)
    assert {key: n[key] for key in tally} == tally
    assert n["lines"] == len(text_lines)
    assert repr(losses(text, piece)) == repr(losses(text))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_bytes_are_survived_and_every_line_is_counted(text: bytes, piece: int) -> None:
    n = counts(text)
    assert n["lines"] == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    assert n["blank"] + n["other"] + n["skipped"] <= n["lines"]
    assert repr(losses(text, piece)) == repr(losses(text))


def test_a_file_is_read_as_its_text(tmp_path: Path) -> None:
    text = b"".join(b"s:%d trl:%.4f\n" % (i, 10 / (i + 1)) for i in range(200_000))
    path = tmp_path / "log_ä b.txt"
    path.write_bytes(text)
    from_file, from_text = _core.parse_log(str(path)), _core.parse_log_text(text)
    assert from_file["counts"] == from_text["counts"]
    for column in ("step", "loss"):
        a, b = (p["splits"]["train"][column] for p in (from_file, from_text))
        np.testing.assert_array_equal(a, b)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        _core.parse_log(str(tmp_path / "none.txt"))
    with pytest.raises(FormatError, match="Is a directory"):
        _core.parse_log(str(tmp_path))
