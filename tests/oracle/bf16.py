"""Rounding to bf16: the upper half of a float32, ties to even."""

import numpy as np

U = 2.0**-8  # half the distance from 1 to the next bf16: the largest relative rounding error
# Bound on the error of a product of two rounded factors, relative to the product.
PRODUCT = 2 * U + U * U


def rounded(x):
    """The nearest bf16 of each finite float32, as float64."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    halves = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return halves.astype(np.uint32).view(np.float32).astype(np.float64)
