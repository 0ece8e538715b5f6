"""How the float32 core is compared with the oracles: error relative to what was added up.

A float32 sum of K products, in any order, is off by at most about K * 2^-24 times the sum of the
products' absolute values (Higham 2002, section 3.1), however small the sum itself came out. So the
scale of an error is the same formula on absolute values, not the result.
"""

import numpy as np

U = 2.0**-24  # half the distance from 1 to the next float32: the largest relative rounding error
UNDERFLOW = 1e-35  # sums of what float32 cannot hold (below 1.2e-38) stay below this


def error(actual, expected, scale):
    """Largest |actual - expected| / scale; where the scale is 0 the two must be equal."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    difference = np.maximum(np.abs(actual - expected) - UNDERFLOW, 0)
    scale = np.broadcast_to(scale, difference.shape)
    assert not difference[scale == 0].any()
    return float((difference[scale > 0] / scale[scale > 0]).max(initial=0.0))


def product_bound(K):
    """Bound on the error of a sum of K products, relative to the sum of their absolute values."""
    return (K + 2) * U


def without_key_bias(name, array):
    """The array of parameter `name`, for qkvb (3C) without the key's part.

    The key bias gets no true gradient, and AdamW makes whole steps of its rounding errors.
    """
    C = len(array) // 3
    return np.delete(array, np.s_[C : 2 * C]) if name.endswith("qkvb") else array
