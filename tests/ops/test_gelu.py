"""The core's own exp, GELU and GELU' against float64, over their whole range."""

import numpy as np
from oracle import compare, gelu

from pyllmc._core import ops

U = compare.U


def test_exp_is_right_to_two_units_in_the_last_place():
    """Evenly over its range, and about each place where the power of two changes."""
    turns = np.float32((np.arange(-125, 128) + 0.5) * np.log(2))
    near = (turns.view(np.int32)[:, None] + np.arange(-50, 51, dtype=np.int32)).view(np.float32)
    x = np.concatenate([np.linspace(-86.9, 88.7, 1_000_003, dtype=np.float32), near.ravel()])
    exact = np.exp(x.astype(np.float64))
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(ops.exp(x) - exact) <= 2 * unit).all()


def test_exp_beyond_the_ends():
    inf = np.inf
    x = [-inf, -3e38, -1000, -87.34, -87, -0.0, 0, 88.73, 1000, 3e38, inf, np.nan]
    expected = [0, 0, 0, 0, 0, 1, 1, inf, inf, inf, inf, np.nan]
    np.testing.assert_array_equal(ops.exp(np.float32(x)), expected)


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
