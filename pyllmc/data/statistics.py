"""Numbers about token files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyllmc.data.token_file import MAX_VOCAB_SIZE, Tokens, read_tokens
from pyllmc.errors import UsageError


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
        raise UsageError(f"{path} holds no tokens: its entropy is not defined.")
    counts = count_tokens(tokens)
    p = counts[counts > 0] / tokens.size
    return float(-(p * np.log(p)).sum())
