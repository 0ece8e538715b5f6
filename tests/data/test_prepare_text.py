"""Any text as a data set (text.py)."""

import json

import numpy as np
import pytest

from pyllmc.data import encode as encode_module
from pyllmc.data import text as text_module
from pyllmc.data.text import prepare_text, read_documents
from pyllmc.data.token_file import read_tokens
from pyllmc.data.tokenizers import load_tokenizer
from pyllmc.errors import FormatError, UsageError

TOKENIZER = load_tokenizer("ministories")
EOT = TOKENIZER.eot


def prepare(tmp_path, files, **options):
    return prepare_text(files, tmp_path / "out", "t", tokenizer_name="ministories", **options)


def tokens(dataset, split):
    return read_tokens(dataset.file(split)).tolist()


def text_of(dataset, split):
    return TOKENIZER.encoding.decode(tokens(dataset, split))


def write(folder, *texts):
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number:02}.txt")
        paths[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def documents(path, separator=None):
    """Each document's text, put together from its pieces."""
    found = []
    for piece in read_documents(path, separator):
        if piece.starts_document:
            found.append("")
        found[-1] += piece.text
    return found


def test_one_file_is_one_document_split_by_tokens_in_order(tmp_path):
    text = "".join(f"Line {i} of the text.\r\n" for i in range(200))
    made = prepare(tmp_path, write(tmp_path, text))
    parts = [tokens(made, split) for split in ("train", "val", "test")]
    assert [i for part in parts for i in part] == [EOT, *TOKENIZER.encoding.encode_ordinary(text)]
    total = sum(map(len, parts))
    assert [len(part) for part in parts[1:]] == [total * 5 // 100] * 2
    assert [made.record["splits"][s]["documents"] for s in ("train", "val", "test")] == [1, 0, 0]


def test_twenty_documents_are_split_whole(tmp_path):
    files = write(tmp_path, *(f"story number {i} is short" for i in range(20)))
    made = prepare(tmp_path, files)
    assert [made.record["splits"][s]["documents"] for s in ("train", "val", "test")] == [18, 1, 1]
    assert text_of(made, "val") == "<|endoftext|>story number 18 is short"
    assert text_of(made, "test") == "<|endoftext|>story number 19 is short"


def test_other_shares(tmp_path):
    files = write(tmp_path, *(f"story {i}" for i in range(40)))
    made = prepare(tmp_path, files, shares=(50, 25, 25))
    assert [made.record["splits"][s]["documents"] for s in ("train", "val", "test")] == [20, 10, 10]


@pytest.mark.parametrize("count", [5, 30], ids=["by tokens", "by documents"])
def test_a_seed_shuffles_documents_and_loses_none(tmp_path, count):
    files = write(tmp_path, *(f"story {i:02} ends" for i in range(count)))
    made = prepare(tmp_path, files, shuffle_seed=7)
    joined = "".join(text_of(made, split) for split in ("train", "val", "test"))
    expected = [f"story {i:02} ends" for i in range(count)]
    shuffled = joined.split("<|endoftext|>")[1:]
    assert shuffled != expected
    assert sorted(shuffled) == expected


def test_a_separator_makes_documents_and_is_no_part_of_them(tmp_path):
    (path,) = write(tmp_path, "--\n\n one\n--\n\n--\ntwo -- three--  ")
    assert documents(path, "--\n") == ["one", "two -- three--"]


def test_a_separator_on_the_border_of_two_reads_is_seen(tmp_path, monkeypatch):
    (path,) = write(tmp_path, "one<|end|>two<|end|>three")
    for size in range(1, 30):
        monkeypatch.setattr(text_module, "_READ", size)
        assert documents(path, "<|end|>") == ["one", "two", "three"]


def test_a_file_is_taken_as_it_is_without_a_separator(tmp_path, monkeypatch):
    text = "  \n déjà 漢字 🙂\r\n\n " * 40
    (path,) = write(tmp_path, text)
    for read, piece in ((1, 1 << 18), (7, 10), (1 << 20, 64)):
        monkeypatch.setattr(text_module, "_READ", read)
        monkeypatch.setattr(text_module, "MAX_PIECE", piece)
        assert documents(path) == [text]
        assert max(len(p.text) for p in read_documents(path, None)) <= piece


def test_a_long_document_has_the_ids_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "MAX_PIECE", 100)
    monkeypatch.setattr(encode_module, "MAX_PIECE", 100)
    text = "It was a dark and stormy night; the rain fell.\n\n  " * 50
    made = prepare(tmp_path, write(tmp_path, text))
    whole = [i for split in ("train", "val", "test") for i in tokens(made, split)]
    assert whole == [EOT, *TOKENIZER.encoding.encode_ordinary(text)]


def test_a_byte_order_mark_is_dropped(tmp_path):
    (path,) = write(tmp_path, b"\xef\xbb\xbfHello \xef\xbb\xbfyou")
    assert documents(path) == ["Hello \ufeffyou"]


@pytest.mark.parametrize("read", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "offset", "byte"),
    [
        ("abcdé".encode() + b"\xffxyz", 6, "0xff"),
        (b"abc\xc3(", 3, "0xc3"),
        (b"abcd\xe6\xbc", 4, "0xe6"),
        ("x".encode("utf-16"), 0, "0xff"),
    ],
    ids=["bad byte", "bad second byte", "cut at the end", "utf-16"],
)
def test_what_is_not_utf8_is_refused_with_the_position(
    tmp_path, monkeypatch, data, offset, byte, read
):
    monkeypatch.setattr(text_module, "_READ", read)
    files = write(tmp_path, "good", data)
    with pytest.raises(FormatError, match=rf"01\.txt is not UTF-8: the byte at offset {offset} is"):
        prepare(tmp_path, files)
    assert not list((tmp_path / "out").iterdir())


def test_a_separator_that_never_comes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "MAX_DOCUMENT", 100)
    monkeypatch.setattr(text_module, "_READ", 64)
    with pytest.raises(UsageError, match="without the separator '##'"):
        documents(write(tmp_path, "x" * 1000)[0], "##")


@pytest.mark.parametrize(
    "options",
    [{"separator": ""}, {"shares": (90, 5, 6)}, {"shares": (95, 5, 0)}, {"shares": (110, -5, -5)}],
    ids=str,
)
def test_senseless_settings_are_refused(tmp_path, options):
    with pytest.raises(UsageError):
        prepare(tmp_path, write(tmp_path, "text"), **options)


def test_files_that_are_missing_or_empty_are_said(tmp_path):
    with pytest.raises(FormatError, match=r"none\.txt does not exist"):
        prepare(tmp_path, [tmp_path / "none.txt"])
    with pytest.raises(FormatError, match="is not a regular file"):
        prepare(tmp_path, [tmp_path])
    with pytest.raises(UsageError, match="hold no text"):
        prepare(tmp_path, write(tmp_path, "", ""))
    with pytest.raises(UsageError, match="no text file"):
        prepare(tmp_path, [])


def test_the_same_text_is_up_to_date_and_another_is_refused(tmp_path, capsys):
    files = write(tmp_path, "one fox ran " * 20)
    made = prepare(tmp_path, files)
    before = made.file("train").stat().st_mtime_ns
    prepare(tmp_path, files)
    assert "up to date" in capsys.readouterr().err
    assert made.file("train").stat().st_mtime_ns == before
    files[0].write_text("two cats sat " * 20)
    with pytest.raises(UsageError, match="made with other files: --force"):
        prepare(tmp_path, files)
    prepare(tmp_path, files, force=True)
    assert "two cats" in text_of(made, "train")


def test_two_runs_give_the_same_bytes(tmp_path):
    files = write(tmp_path, *(f"story {i} about a fox" for i in range(25)))
    made = prepare(tmp_path, files, shuffle_seed=3)
    first = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    prepare(tmp_path, files, shuffle_seed=3, force=True)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == first


def test_real_text_with_gpt2_has_its_known_number_of_tokens(tmp_path, shared_data, tiktoken_cache):
    made = prepare_text([shared_data / "tinyshakespeare.txt"], tmp_path, "shakespeare")
    counts = [made.record["splits"][split]["tokens"] for split in ("train", "val", "test")]
    assert sum(counts) == 338_025 + 1  # and end-of-text
    whole = np.concatenate([read_tokens(made.file(s)) for s in ("train", "val", "test")])
    text = (shared_data / "tinyshakespeare.txt").read_text()
    assert load_tokenizer("gpt2").encoding.decode(whole[1:].tolist()) == text
    assert json.loads((tmp_path / "shakespeare.json").read_text())["tokenizer"]["eot"] == 50256
