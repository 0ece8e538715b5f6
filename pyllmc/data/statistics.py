"""Numbers about token files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pyllmc.data.token_file import MAX_VOCAB_SIZE, Tokens, read_tokens
from pyllmc.data.tokenizer_file import read_tokenizer_file
from pyllmc.errors import FormatError, UsageError


def count_tokens(tokens: Tokens) -> np.ndarray:
    """How often each id occurs, shape (65536,), int64; reads in blocks, whatever the length."""
    counts = np.zeros(MAX_VOCAB_SIZE, dtype=np.int64)
    block = 1 << 22
    for start in range(0, tokens.size, block):
        counts += np.bincount(tokens[start : start + block], minlength=MAX_VOCAB_SIZE)
    return counts


def unigram_entropy(path: str | Path) -> float:
    """−Σ p ln p over the token frequencies of a file, in nats.

    The loss of a model that knows these frequencies and nothing of the order: a trained model has
    to come out below it. UsageError when the file holds no token.
    """
    tokens = read_tokens(path)
    if tokens.size == 0:
        raise UsageError(f"{path} holds no tokens: its entropy is not defined")
    counts = count_tokens(tokens)
    p = counts[counts > 0] / tokens.size
    return float(-(p * np.log(p)).sum())


def describe(path: Path, first: int) -> Iterator[tuple[str, str]]:
    """Lines about a token file for a person: (label, value), the first `first` tokens decoded.

    `X_train.bin` and its like are decoded by the `X_tokenizer.bin` beside them; without one the
    ids stand for themselves.
    """
    tokens = read_tokens(path)
    yield "file", str(path)
    yield "tokens", f"{tokens.size:,}"
    if tokens.size == 0:
        return
    counts = count_tokens(tokens)
    used = np.flatnonzero(counts)
    yield "ids", f"{used[0]} to {used[-1]}, {used.size:,} different"
    yield "unigram entropy", f"{unigram_entropy(path):.4f} nats"
    vocabulary = path.with_name(f"{path.stem.rpartition('_')[0]}_tokenizer.bin")
    start = tokens[:first].tolist()
    if not vocabulary.exists():
        yield f"first {len(start)}", " ".join(map(str, start))
        return
    words, eot = read_tokenizer_file(vocabulary)
    yield "vocabulary", f"{len(words):,} tokens, end-of-text {eot} occurs {counts[eot]:,} times"
    if used[-1] >= len(words):
        raise FormatError(
            f"{path} holds the id {used[-1]}, but {vocabulary} has {len(words):,} tokens: they do "
            "not belong together"
        )
    yield f"first {len(start)}", repr(b"".join(words[i] for i in start).decode(errors="replace"))
