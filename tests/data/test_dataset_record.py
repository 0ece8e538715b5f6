"""What makes a prepared data set whole, and when it is kept (prepare.py)."""

import hashlib
import json
import os

import numpy as np
import pytest

from pyllmc.data.prepare import find_dataset, write_dataset
from pyllmc.data.token_file import read_tokens
from pyllmc.data.tokenizer_file import read_tokenizer_file
from pyllmc.errors import UsageError

SOURCE = {"kind": "test", "seed": 1, "shares": (90, 5, 5)}


def block(*ids):
    return np.array(ids, dtype=np.uint16)


def make(folder, source=SOURCE, train=((3, 0, 1), (3, 2)), test=((3,),)):
    return write_dataset(
        folder,
        "t",
        tokenizer_name="abc",
        tokens=[b"a", b"b", b"c", b"<end>"],
        eot=3,
        splits=[
            ("val", [block(3, 1)]),
            ("train", [block(*ids) for ids in train]),
            ("test", [block(*ids) for ids in test]),
        ],
        source=source,
    )


def test_the_record_describes_the_files(tmp_path):
    made = make(tmp_path)
    record = json.loads((tmp_path / "t.json").read_text())
    assert record == json.loads(json.dumps(made.record))
    assert record["format"] == 1
    assert record["name"] == "t"
    tokenizer = record["tokenizer"]
    assert (tokenizer["name"], tokenizer["vocab_size"], tokenizer["eot"]) == ("abc", 4, 3)
    assert read_tokenizer_file(made.tokenizer_file) == ([b"a", b"b", b"c", b"<end>"], 3)
    for split, tokens, documents in (("train", 5, 2), ("val", 2, 1), ("test", 1, 1)):
        facts = record["splits"][split]
        path = tmp_path / facts["file"]
        assert path == made.file(split)
        assert (facts["tokens"], facts["documents"]) == (tokens, documents)
        assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_tokens(made.file("train")).tolist() == [3, 0, 1, 3, 2]
    assert len(os.listdir(tmp_path)) == 5


def test_what_was_made_alike_is_found(tmp_path):
    assert find_dataset(tmp_path, "t", SOURCE) is None
    make(tmp_path)
    assert find_dataset(tmp_path, "t", SOURCE).record["name"] == "t"
    assert find_dataset(tmp_path, "t", {"seed": 1}) is not None


def test_what_was_made_otherwise_is_refused_with_the_difference(tmp_path):
    make(tmp_path)
    with pytest.raises(UsageError, match=r"made with seed 1, not 2: --force"):
        find_dataset(tmp_path, "t", {**SOURCE, "seed": 2})
    with pytest.raises(UsageError, match=r"made with url None, not 'x'"):
        find_dataset(tmp_path, "t", {**SOURCE, "url": "x"})


@pytest.mark.parametrize("file", ["t_train.bin", "t_val.bin", "t_test.bin", "t_tokenizer.bin"])
@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_file_means_making_it_again(tmp_path, capsys, file, damage):
    make(tmp_path)
    path = tmp_path / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data) if damage == "changed" else path.unlink()
    assert find_dataset(tmp_path, "t", SOURCE) is None
    assert file in capsys.readouterr().err


def test_files_without_a_record_are_not_overwritten(tmp_path):
    make(tmp_path)
    (tmp_path / "t.json").unlink()
    with pytest.raises(UsageError, match=r"t_train\.bin but no t\.json"):
        find_dataset(tmp_path, "t", SOURCE)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": 1, "splits": []}'])
def test_a_record_of_something_else_is_not_overwritten(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UsageError, match="not the record"):
        find_dataset(tmp_path, "t", SOURCE)


def test_an_empty_split_is_refused_and_leaves_what_was_there(tmp_path):
    make(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="the test split of t would be empty"):
        make(tmp_path, test=())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_break_while_replacing_leaves_no_record_that_lies(tmp_path, monkeypatch):
    make(tmp_path)
    real = os.replace
    renamed = []

    def break_at_second(source, target):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", break_at_second)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, source={**SOURCE, "seed": 2}, train=((3, 3, 3),))
    assert renamed
    assert not (tmp_path / "t.json").exists()
