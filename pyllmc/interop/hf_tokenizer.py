"""Byte-level BPE vocabularies as the files that transformers' GPT2Tokenizer reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyllmc.data.tokenizer_file import read_tokenizer_file
from pyllmc.data.tokenizers import EOT_TEXT, load_tokenizer
from pyllmc.errors import UsageError


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte (Radford et al. 2019, encoder.py).

    Printable characters of Latin-1 stand for themselves, the other 68 bytes in order for U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_CHARACTERS = byte_characters()


def spell(token: bytes) -> str:
    """A token as vocab.json writes it."""
    return "".join(_CHARACTERS[byte] for byte in token)


@dataclass(frozen=True)
class TokenizerFiles:
    """A vocabulary: `tokens[i]` are the bytes of id i, `eot` is end-of-text."""

    tokens: Sequence[bytes]
    eot: int

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """For every token of several bytes, in the order of ids, the two that make it."""
        ranks = {t: i for i, t in enumerate(self.tokens) if i != self.eot}
        if len(ranks) != len(self.tokens) - 1 or b"" in ranks:
            raise UsageError(
                "the tokenizer has a token twice or an empty one, which vocab.json cannot say"
            )
        pairs = []
        for token, rank in ranks.items():
            if len(token) == 1:
                continue
            parts = _encode(token, ranks, rank)
            if len(parts) != 2:
                raise UsageError(
                    f"token {rank} of the tokenizer ({token!r}) is not made of two tokens with "
                    "lower ids: byte-level BPE was expected"
                )
            pairs.append((parts[0], parts[1]))
        return pairs

    def files(self, longest: int) -> dict[str, str]:
        """Names and contents of the files; `longest` is the model's maxT."""
        vocab = {spell(t): i for i, t in enumerate(self.tokens) if i != self.eot}
        vocab[EOT_TEXT] = self.eot
        merges = [f"{spell(a)} {spell(b)}" for a, b in self.merges]
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
        eot = {"id": self.eot, "content": EOT_TEXT, "special": True, "normalized": False}
        fast = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [eot | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)],
            "normalizer": None,
            "pre_tokenizer": byte_level | {"trim_offsets": True},
            "post_processor": byte_level | {"trim_offsets": False},
            "decoder": byte_level | {"trim_offsets": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": merges,
            },
        }
        settings = {
            "tokenizer_class": "GPT2Tokenizer",
            "model_max_length": longest,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), EOT_TEXT),
        }
        return {
            "vocab.json": _json(vocab),
            "merges.txt": "#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges),
            "tokenizer.json": _json(fast),
            "tokenizer_config.json": _json(settings),
        }


def tokenizer_files(name: str) -> TokenizerFiles:
    """`gpt2`, `ministories`, a .tiktoken file or an llm.c tokenizer file.

    Raises UsageError for an unknown name, FormatError for a bad file, PyllmcError when GPT-2's
    vocabulary cannot be had.
    """
    if Path(name).suffix == ".bin":
        return TokenizerFiles(*read_tokenizer_file(name))
    tokenizer = load_tokenizer(name)
    return TokenizerFiles(tokenizer.tokens, tokenizer.eot)


def _encode(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """`token` by merges into ids less than `below`: the lowest first, of equals the leftmost."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while True:
        candidates = [ranks.get(a + b, below) for a, b in pairwise(parts)]
        best = min(candidates, default=below)
        if best >= below:
            return parts
        at = candidates.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
