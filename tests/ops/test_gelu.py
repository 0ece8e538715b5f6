"""The core's own exp, GELU and GELU' against float64, over their whole range."""

import numpy as np
from oracle import compare, gelu

from pyllmc._core import ops

U = compare.U


def test_exp_is_right_to_three_roundings():
    x = np.linspace(-87.3, 88.7, 100_003, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert compare.error(ops.exp(x), exact, exact) < 3 * U


def test_exp_at_the_ends():
    x = np.array([-np.inf, -1000, -87.4, 0, 88.8, np.inf, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(ops.exp(x), [0, 0, 0, 1, np.inf, np.inf, np.nan])


def test_gelu_and_its_derivative():
    x = np.linspace(-30, 30, 100_003, dtype=np.float32)
    exact = x.astype(np.float64)
    # The argument of exp carries the rounding of x^3, and gelu' passes through 0: both errors are
    # taken relative to the size of what was multiplied, |x| and 1 + |x|.
    assert compare.error(ops.gelu(x), gelu.forward(exact), np.abs(exact)) < 5 * U
    slope = gelu.backward(np.ones_like(exact), exact)
    assert compare.error(ops.gelu_derivative(x), slope, 1 + np.abs(exact)) < 8 * U


def test_gelu_of_large_numbers():
    x = np.array([-1e9, -1e4, 1e4, 1e9], dtype=np.float32)
    np.testing.assert_array_equal(ops.gelu(x), [0, 0, 1e4, 1e9])
    np.testing.assert_array_equal(ops.gelu_derivative(x), [0, 0, 1, 1])
