"""Token embedding plus learned position embedding."""

import numpy as np


def forward(tokens, wte, wpe):
    """tokens (B, T) ints, wte (Vp, C), wpe (maxT, C) -> (B, T, C)."""
    return wte[tokens] + wpe[: tokens.shape[1]]


def backward(dout, tokens, wte, wpe):
    """Returns dwte (Vp, C) and dwpe (maxT, C); positions from T on get no gradient."""
    dwte, dwpe = np.zeros_like(wte), np.zeros_like(wpe)
    np.add.at(dwte, tokens, dout)
    dwpe[: tokens.shape[1]] = dout.sum(axis=0)
    return dwte, dwpe
