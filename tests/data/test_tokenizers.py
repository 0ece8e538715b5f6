"""Vocabularies and the tokenizer cache (tokenizers.py, train_vocabulary.py)."""

import base64
import hashlib
import io
import urllib.error
import urllib.request

import pytest

from pyllmc.data import tokenizers
from pyllmc.data.stories import tell_stories
from pyllmc.data.tokenizers import fetch_gpt2, gpt2_cache, load_tokenizer
from pyllmc.data.train_vocabulary import ASSET, train, vocabulary_file
from pyllmc.errors import FormatError, PyllmcError, UsageError


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))

    def no_network(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return tmp_path / "cache"


def test_the_built_in_vocabulary_is_what_its_script_makes_from_the_stories():
    assert ASSET.read_bytes() == vocabulary_file()


def test_training_merges_the_most_frequent_pairs_first():
    # Pieces: "aaab" and " aaab" three times, " ab" once, so aa is merged before ab.
    tokens = train(["aaab aaab aaab aaab ab"], 260)
    assert tokens[:256] == [bytes([i]) for i in range(256)]
    assert tokens[256:] == [b"aa", b"ab", b"aaab", b" aaab"]


def test_training_on_too_little_text_says_so():
    with pytest.raises(ValueError, match="used up after 257 of 300"):
        train(["ab"], 300)


def test_the_built_in_vocabulary_has_1024_tokens_and_ends_with_end_of_text():
    tokenizer = load_tokenizer("ministories")
    assert (tokenizer.vocab_size, tokenizer.eot) == (1024, 1023)
    assert tokenizer.tokens[1023] == b"<|endoftext|>"
    assert sorted(tokenizer.tokens[:256]) == [bytes([i]) for i in range(256)]


@pytest.mark.parametrize("text", ["déjà vu, 漢字 🙂", "\x00\n\n  \t x", next(tell_stories(1, 9))])
def test_the_built_in_vocabulary_encodes_any_text_without_loss(text):
    encoding = load_tokenizer("ministories").encoding
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_the_built_in_vocabulary_leaves_nothing_in_the_cache(empty_cache):
    load_tokenizer("ministories")
    assert not empty_cache.exists()


def test_gpt2_is_loaded_from_the_cache(tiktoken_cache):
    tokenizer = load_tokenizer("gpt2")
    assert (tokenizer.vocab_size, tokenizer.eot) == (50257, 50256)
    assert tokenizer.encoding.encode_ordinary("Hello world") == [15496, 995]
    assert [tokenizer.tokens[i] for i in (15496, 995, 50256)] == [
        b"Hello",
        b" world",
        b"<|endoftext|>",
    ]
    assert {state for _, state in gpt2_cache().values()} == {"present"}


def test_without_cache_and_network_one_sentence_says_how_to_fill_it(empty_cache):
    with pytest.raises(PyllmcError) as caught:
        load_tokenizer("gpt2")
    message = str(caught.value)
    assert "Name or service not known" in message
    assert "TIKTOKEN_CACHE_DIR" in message
    assert "vocab.bpe as 6d1cbeee0f20b3d9449abfede4726ed8212e3aee" in message
    assert "encoder.json as 6c7ea1a7e38e3a7f062df639a5b80947f075ffe6" in message
    assert "pyllmc data prepare ministories" in message
    assert "\n" not in message


def test_what_was_fetched_is_checked_and_kept(empty_cache, monkeypatch):
    served = {"vocab.bpe": b"merges", "encoder.json": b"ids"}
    monkeypatch.setattr(
        urllib.request,
        "urlopen",
        lambda url, timeout: io.BytesIO(served[url.rpartition("/")[2]]),
    )
    with pytest.raises(PyllmcError, match="sha256 is not GPT-2's"):
        fetch_gpt2()
    assert not empty_cache.exists()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in served.items()}
    monkeypatch.setattr(tokenizers, "GPT2_FILES", digests)
    assert [path.read_bytes() for path in fetch_gpt2()] == [b"merges", b"ids"]
    assert fetch_gpt2() == []


def test_a_damaged_file_in_the_cache_is_not_called_present(empty_cache):
    path, _ = gpt2_cache()["vocab.bpe"]
    path.parent.mkdir()
    path.write_bytes(b"half")
    assert [state for _, state in gpt2_cache().values()] == ["damaged", "missing"]


def test_the_cache_folder_follows_tiktokens_rule(monkeypatch, tmp_path):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path / "gym"))
    assert tokenizers.cache_folder() == tmp_path / "gym"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tik"))
    assert tokenizers.cache_folder() == tmp_path / "tik"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(UsageError, match="TIKTOKEN_CACHE_DIR is empty"):
        tokenizers.cache_folder()


def ranks(*tokens):
    return b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens))


BYTES = [bytes([i]) for i in range(256)]


def test_a_tiktoken_file_gets_end_of_text_as_its_last_id(tmp_path):
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(ranks(*BYTES, b"ab"))
    tokenizer = load_tokenizer(str(path))
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.eot) == ("mine", 258, 257)
    assert tokenizer.encoding.encode_ordinary("abab c") == [256, 256, 32, 99]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "lacks 256"),
        (ranks(*BYTES[:-1]), "lacks 1 of the 256 single bytes, the first is 255"),
        (ranks(*BYTES) + b"YWI= 300\n", "not 0 to 256"),
        (ranks(*BYTES) + b"YWI= 5\n", "not 0 to 256"),
        (ranks(*BYTES) + b"!! 256\n", "line 257"),
        (ranks(*BYTES) + b"YWI=\n", "line 257"),
        (ranks(*BYTES) + b"YWI= x\n", "line 257"),
    ],
    ids=["empty", "a byte", "gap", "rank twice", "base64", "no rank", "bad rank"],
)
def test_a_bad_tiktoken_file_is_refused(tmp_path, data, message):
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message):
        load_tokenizer(str(path))


def test_unknown_names_and_missing_files_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="no tokenizer 'gpt3'"):
        load_tokenizer("gpt3")
    with pytest.raises(FormatError, match="No such file"):
        load_tokenizer(str(tmp_path / "none.tiktoken"))
