"""Tokenizer files for transformers: GPT-2's own, and others that encode as ours do."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from interop.hf_models import make_checkpoint

from pyllmc.data.tokenizer_file import write_tokenizer_file
from pyllmc.data.tokenizers import gpt2_cache, load_tokenizer
from pyllmc.errors import UsageError
from pyllmc.interop.hf_export import export_hf
from pyllmc.interop.hf_tokenizer import TokenizerFiles, spell, tokenizer_files

BYTES = [bytes([i]) for i in range(256)]
TEXTS = [
    "Once upon a time there was a little dog named Spot.",
    "don't we'll I'm  two  spaces\n\n tabs\t and <|endoftext|> 1,234.5",
    "naïve café 价格是一百元 👍🏽 \u00a0 \x00 ½ \u2003x",
    "aaaaaaaaa bbbbbbb   ",
]


def test_every_byte_has_a_character_of_its_own() -> None:
    characters = [spell(byte) for byte in BYTES]
    assert len(set(characters)) == 256
    assert all(len(c) == 1 and c.isprintable() and not c.isspace() for c in characters)
    assert spell(b" the\n") == "ĠtheĊ"


def test_gpt2s_files_are_those_that_were_published(tiktoken_cache: Path) -> None:
    files = tokenizer_files("gpt2").files(1024)
    published = {name: path for name, (path, _) in gpt2_cache().items()}
    assert json.loads(files["vocab.json"]) == json.loads(published["encoder.json"].read_text())
    assert files["merges.txt"].splitlines() == published["vocab.bpe"].read_text().splitlines()


def test_merges_are_in_the_order_of_ids() -> None:
    tokens = [*BYTES, b"bc", b"ab", b"abc", b"aabc", b"<end>"]
    found = TokenizerFiles(tokens, 260)
    assert found.merges == [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc"), (b"a", b"abc")]
    fast = json.loads(found.files(64)["tokenizer.json"])
    assert fast["model"]["merges"] == ["b c", "a b", "a bc", "a abc"]
    assert fast["model"]["vocab"]["<|endoftext|>"] == 260
    assert json.loads(found.files(64)["tokenizer_config.json"])["model_max_length"] == 64


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([*BYTES, b"abcd"], "token 256"),
        ([*BYTES, b"abc", b"ab"], "token 256"),
        ([*BYTES, b"a"], "a token twice"),
        ([*BYTES, b""], "an empty one"),
    ],
    ids=["no parts", "parts later", "twice", "empty"],
)
def test_a_vocabulary_that_is_no_byte_level_bpe_is_refused(
    tokens: list[bytes], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TokenizerFiles([*tokens, b"<end>"], len(tokens)).files(9)


def test_a_tokenizer_file_is_read(tmp_path: Path) -> None:
    write_tokenizer_file(tmp_path / "t.bin", [*BYTES, b"ab", b"<end>"], 257)
    found = tokenizer_files(str(tmp_path / "t.bin"))
    assert (found.vocab_size, found.eot, found.merges) == (258, 257, [(b"a", b"b")])


@pytest.mark.parametrize("name", ["gpt2", "ministories"])
def test_transformers_encodes_as_we_do(name: str, tmp_path: Path, tiktoken_cache: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="no transformers: pip install transformers"
    )
    ours, files = load_tokenizer(name), tokenizer_files(name)
    model = make_checkpoint(tmp_path / "model.bin", ours.vocab_size, ours.vocab_size)
    export_hf(model, tmp_path / "hf", files)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs.eos_token_id == ours.eot
    assert theirs.model_max_length == 9
    rng = random.Random(1)
    letters = "".join(TEXTS)
    for text in [*TEXTS, *("".join(rng.choices(letters, k=40)) for _ in range(200))]:
        text = text.replace("<|endoftext|>", "")
        ids = theirs.encode(text, add_special_tokens=False)
        assert ids == ours.encoding.encode_ordinary(text)
        assert theirs.decode(ids) == text
    assert theirs.encode("a<|endoftext|>")[-1] == ours.eot
