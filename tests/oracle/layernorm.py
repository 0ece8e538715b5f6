"""LayerNorm over the last axis with weight and bias (Ba, Kiros, Hinton 2016, arXiv:1607.06450)."""

import numpy as np

EPS = 1e-5


def forward(x, w, b):
    """x (..., C), w and b (C,) -> out (..., C), mean (...), rstd (...).

    rstd = 1 / sqrt(var + EPS), the variance divided by C.
    """
    mean = x.mean(axis=-1)
    rstd = 1 / np.sqrt(x.var(axis=-1) + EPS)
    return _normalise(x, mean, rstd) * w + b, mean, rstd


def backward(dout, x, w, mean, rstd):
    """Returns dx, dw, db."""
    xhat = _normalise(x, mean, rstd)
    rows = tuple(range(x.ndim - 1))
    dxhat = dout * w
    dx = dxhat - dxhat.mean(-1, keepdims=True) - xhat * (dxhat * xhat).mean(-1, keepdims=True)
    return dx * rstd[..., None], (dout * xhat).sum(rows), dout.sum(rows)


def _normalise(x, mean, rstd):
    return (x - mean[..., None]) * rstd[..., None]
