"""Causal multi-head self-attention on packed queries, keys and values.

qkv (B, T, 3C) holds q | k | v; inside each, head h owns channels h*hs .. (h+1)*hs - 1.
"""

import numpy as np


def forward(qkv, NH):
    """qkv (B, T, 3C) -> out (B, T, C), probabilities (B, NH, T, T), log-sum-exp (B, NH, T).

    Scores are q.k / sqrt(hs); position t sees positions 0..t.
    """
    q, k, v = _split(qkv, NH)
    T, hs = q.shape[2:]
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(hs)
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    lse = top + np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))
    probabilities = np.exp(scores - lse)
    return _join_heads(probabilities @ v), probabilities, lse[..., 0]


def backward(dout, qkv, probabilities, NH):
    """Returns dqkv (B, T, 3C)."""
    q, k, v = _split(qkv, NH)
    hs = q.shape[-1]
    dheads = _split_heads(dout, NH)
    dprobabilities = dheads @ v.swapaxes(-1, -2)
    row = (dprobabilities * probabilities).sum(axis=-1, keepdims=True)
    dscores = probabilities * (dprobabilities - row) / np.sqrt(hs)
    dq = dscores @ k
    dk = dscores.swapaxes(-1, -2) @ q
    dv = probabilities.swapaxes(-1, -2) @ dheads
    return np.concatenate([_join_heads(part) for part in (dq, dk, dv)], axis=-1)


def _split(qkv, NH):
    return [_split_heads(part, NH) for part in np.split(qkv, 3, axis=-1)]


def _split_heads(x, NH):
    """(B, T, C) -> (B, NH, T, hs)."""
    B, T, C = x.shape
    return x.reshape(B, T, NH, C // NH).transpose(0, 2, 1, 3)


def _join_heads(x):
    """(B, NH, T, hs) -> (B, T, C)."""
    B, NH, T, hs = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, NH * hs)
