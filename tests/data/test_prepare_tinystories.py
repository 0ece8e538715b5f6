"""The TinyStories archive, served on localhost (tinystories.py)."""

import io
import json
import os
import random
import socket
import subprocess
import sys
import tarfile

import pytest
from data.local_server import LocalServer

from pyllmc.data import download as download_module
from pyllmc.data import tinystories
from pyllmc.data.prepare import SPLITS
from pyllmc.data.tinystories import prepare_tinystories
from pyllmc.data.token_file import read_tokens
from pyllmc.data.tokenizers import load_tokenizer
from pyllmc.errors import FormatError, PyllmcError, UsageError

# In the archive the shards do not come in the order of their names.
ORDER = (2, 0, 3, 1)
STORIES = {
    shard: [f"Shard {shard} tells story {i}. “Hello!” said the fox." for i in range(50)]
    for shard in ORDER
}


def member(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def archive(stories=STORIES):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member(tar, "./._data00.json", b"\x00\x05\x16\x07 of macOS")
        member(tar, "./README.txt", b"about the data")
        for shard, texts in stories.items():
            items = [
                {"story": f"\n\n  {text}\n", "instruction": {"words": ["a"]}, "source": "x"}
                for text in texts
            ]
            member(tar, f"./data{shard:02}.json", json.dumps(items).encode())
    return buffer.getvalue()


@pytest.fixture
def server():
    with LocalServer(archive()) as server:
        yield server


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """The built-in vocabulary in place of GPT-2's, and no waiting between attempts."""
    monkeypatch.setattr(tinystories, "load_tokenizer", lambda name: load_tokenizer("ministories"))
    monkeypatch.setattr(download_module, "RETRY_AFTER_S", (0.0, 0.0))


def stories_of(dataset, split, tokenizer="ministories"):
    encoding = load_tokenizer(tokenizer).encoding
    text = encoding.decode(read_tokens(dataset.file(split)).tolist())
    assert text.startswith("<|endoftext|>")
    return text.split("<|endoftext|>")[1:]


def shuffled(shard):
    stories = list(STORIES[shard])
    random.Random(1337).shuffle(stories)
    return stories


def test_shards_by_name_become_val_test_and_train(server, tmp_path):
    made = prepare_tinystories(tmp_path, url=server.url)
    assert stories_of(made, "val") == shuffled(0)
    assert stories_of(made, "test") == shuffled(1)
    assert stories_of(made, "train") == shuffled(2) + shuffled(3)
    assert [made.record["splits"][split]["documents"] for split in SPLITS] == [100, 50, 50]
    assert made.record["source"]["url"] == server.url
    assert sorted(os.listdir(tmp_path)) == [
        "TinyStories.json",
        "TinyStories_test.bin",
        "TinyStories_tokenizer.bin",
        "TinyStories_train.bin",
        "TinyStories_val.bin",
    ]


def test_real_vocabulary(server, tmp_path, tiktoken_cache, monkeypatch):
    monkeypatch.setattr(tinystories, "load_tokenizer", load_tokenizer)
    made = prepare_tinystories(tmp_path, url=server.url)
    assert made.record["tokenizer"]["vocab_size"] == 50257
    assert read_tokens(made.file("train"))[0] == 50256
    assert stories_of(made, "val", "gpt2") == shuffled(0)


def test_a_connection_that_breaks_midway_changes_nothing(server, tmp_path):
    whole = prepare_tinystories(tmp_path / "whole", url=server.url)
    server.requests.clear()
    server.break_after = [len(server.body) // 2]
    broken = prepare_tinystories(tmp_path / "broken", url=server.url)
    assert "range" in server.requests[1]
    for split in SPLITS:
        assert broken.file(split).read_bytes() == whole.file(split).read_bytes()


def test_an_interrupted_tokenization_starts_again_from_the_archive(server, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tinystories, "write_dataset", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_tinystories(tmp_path, url=server.url)
    assert sorted(os.listdir(tmp_path)) == ["archive.tar.gz", "archive.tar.gz.download.json"]
    made = prepare_tinystories(tmp_path, url=server.url)
    assert len(server.requests) == 1
    assert stories_of(made, "val") == shuffled(0)


def test_what_is_prepared_already_needs_no_server(server, tmp_path, capsys):
    url = server.url
    prepare_tinystories(tmp_path, url=url)
    server.statuses = [500] * 9
    prepare_tinystories(tmp_path, url=url)
    assert len(server.requests) == 1
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(UsageError, match="made with url"):
        prepare_tinystories(tmp_path, url="http://127.0.0.1:9/other.tar.gz")


def test_the_archive_stays_on_demand(server, tmp_path):
    prepare_tinystories(tmp_path, url=server.url, keep_archive=True)
    assert (tmp_path / "archive.tar.gz").read_bytes() == server.body


def test_a_wrong_hash_is_refused_before_tokenizing(server, tmp_path):
    with pytest.raises(FormatError, match="sha256"):
        prepare_tinystories(tmp_path, url=server.url, sha256="0" * 64)
    assert os.listdir(tmp_path) == []


def test_without_network_one_sentence_names_the_ways_out(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/archive.tar.gz"
        with pytest.raises(PyllmcError) as caught:
            prepare_tinystories(tmp_path, url=url)
    message = str(caught.value)
    assert "could not reach" in message
    assert "pyllmc data prepare ministories" in message
    assert "--url" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (archive()[:-200], "not a whole .tar.gz"),
        (b"<html>Not found</html>" * 100, "not a whole .tar.gz"),
        (archive({0: ["a"], 1: ["b"]}), "holds 2 JSON shards"),
        (archive({0: ["a"], 1: ["b"], 2: []}), "train split of TinyStories would be empty"),
    ],
    ids=["cut", "no archive", "two shards", "no stories"],
)
def test_a_bad_archive_is_refused(server, tmp_path, body, message):
    server.body = body
    with pytest.raises(PyllmcError, match=message):
        prepare_tinystories(tmp_path, url=server.url)
    assert not list(tmp_path.glob("*.bin"))


def test_an_object_without_a_story_is_refused_with_its_place(server, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member(tar, "data00.json", json.dumps([{"story": "a"}, {"text": "b"}]).encode())
    server.body = buffer.getvalue()
    with pytest.raises(FormatError, match=r"data00\.json: object 1 has no text"):
        prepare_tinystories(tmp_path, url=server.url)


def test_memory_does_not_grow_with_the_shards(tmp_path):
    # 80 MB of JSON whose stories are short: read whole, it would take more than that.
    items = [{"story": f"Story {i}.", "instruction": "x" * 20_000} for i in range(1000)]
    shard = json.dumps(items).encode()
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz", compresslevel=1) as tar:
        for number in range(4):
            member(tar, f"data{number:02}.json", shard)
    code = (
        "import re, sys; from pathlib import Path\n"
        "from pyllmc.data import tinystories; from pyllmc.data.tokenizers import load_tokenizer\n"
        "tinystories.load_tokenizer = lambda name: load_tokenizer('ministories')\n"
        "tinystories.load_tokenizer('')\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', status.read_text())[1])\n"
        "before = peak()\n"
        "tinystories.prepare_tinystories(Path(sys.argv[1]) / 'out', url=sys.argv[2])\n"
        "print(peak() - before)"
    )
    url = (tmp_path / "archive.tar.gz").as_uri()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), url], stdout=subprocess.PIPE, check=True
    )
    assert int(done.stdout) < 40_000  # KiB


def test_the_real_address_is_the_default():
    assert tinystories.URL == (
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
        "TinyStories_all_data.tar.gz"
    )
