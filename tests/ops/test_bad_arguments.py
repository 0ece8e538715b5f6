"""What an op would read or write out of bounds for is refused at its door."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyllmc._core import ops
from pyllmc.errors import UsageError

B, T, C, V = 2, 3, 8, 11
TOKENS = np.arange(B * T, dtype=np.int32).reshape(B, T)
X, W = np.ones((B * T, C), np.float32), np.ones((V, C), np.float32)
WPE, DX = np.ones((5, C), np.float32), np.ones((B, T, C), np.float32)
QKV = np.ones((B, T, 3 * C), np.float32)
ROWS = np.ones(C, np.float32)
TARGETS = np.zeros(B * T, np.int32)

CALLS: dict[str, tuple[Any, ...]] = {
    "linear_forward": (X, W),
    "linear_backward": (np.ones((B * T, V), np.float32), X, W),
    "band_forward": (X, W, 4),
    "layernorm_forward": (X, ROWS, ROWS),
    "attention_forward": (QKV, 2),
    "attention_decode": (QKV[0], 2, T),
    "embedding_forward": (TOKENS, W, WPE),
    "embedding_backward": (TOKENS, DX, V, T),
    "classifier": (X, W, TARGETS, V),
}


@pytest.mark.parametrize("threads", [0, -3, 4097])
@pytest.mark.parametrize("op", CALLS)
def test_number_of_threads(op, threads):
    with pytest.raises(UsageError, match=f"threads is {threads}, it must be 1 to 4096"):
        getattr(ops, op)(*CALLS[op], threads=threads)


@pytest.mark.parametrize("token", [-1, -(10**8), V, 10**8, 2**32 + 1])
def test_tokens_of_an_embedding(token, device):
    tokens = TOKENS.astype(np.int64)
    tokens[1, 2] = token
    with pytest.raises(UsageError, match=f"token {token} is not in the vocabulary of {V}"):
        ops.embedding_forward(tokens, W, WPE, device=device)
    with pytest.raises(UsageError, match=f"token {token} is not in the vocabulary of {V}"):
        ops.embedding_backward(tokens, DX, V, T, device=device)


@pytest.mark.parametrize("width", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_ids_of_any_width_are_the_same_ids(width):
    expected = ops.embedding_forward(TOKENS, W, WPE)
    np.testing.assert_array_equal(ops.embedding_forward(TOKENS.astype(width), W, WPE), expected)


def test_ids_are_whole_numbers():
    with pytest.raises(UsageError, match="token ids of type float64, expected whole numbers"):
        ops.embedding_forward(TOKENS.astype(np.float64), W, WPE)


@pytest.mark.parametrize("first", [-1, -(10**8), 3, 2**31 - 1])
def test_positions_of_an_embedding(first, device):
    with pytest.raises(UsageError, match=f"positions {first} to {first + 2} are not all among 0 "):
        ops.embedding_forward(TOKENS, W, WPE, first_position=first, device=device)


def test_positions_of_an_embeddings_gradient(device):
    with pytest.raises(UsageError, match="positions 0 to 2 are not all among 0 to 1"):
        ops.embedding_backward(TOKENS, DX, V, 2, device=device)


@pytest.mark.parametrize("target", [V, 10**8, 2**32 + 1])
def test_targets_of_the_classifier(target, device):
    targets = TARGETS.astype(np.int64)
    targets[4] = target
    with pytest.raises(UsageError, match=f"token {target} is not in the vocabulary of {V}"):
        ops.classifier(X, W, targets, V, device=device)


@pytest.mark.parametrize("vocab", [0, -1, V + 1])
def test_vocabulary_of_the_classifier(vocab, device):
    with pytest.raises(UsageError, match=f"vocab is {vocab}, it must be 1 to {V}"):
        ops.classifier(X, W, TARGETS - 1, vocab, device=device)
