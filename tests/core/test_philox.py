"""The core's random numbers are the oracle's: same words, same normals, same uniforms."""

import numpy as np
import pytest
from oracle import philox

from pyllmc._core import ops


@pytest.mark.parametrize("name", ["wte", "h.11.attprojw", "été"])
@pytest.mark.parametrize("seed", [0, 1337, 2**32 - 1, 2**63 + 5])
def test_words(seed, name):
    step = 3 + (5 << 32)
    expected = philox.words(seed, name, 12, step)
    drawn = [word for b in range(3) for word in ops.philox_block(seed, name, b, step)]
    assert drawn == expected


def test_high_half_of_the_block_number():
    key = philox.fnv1a64("wte") ^ 7
    expected = philox.philox4x32_10((1, 2, 0, 0), (key & 0xFFFFFFFF, key >> 32))
    assert tuple(ops.philox_block(7, "wte", 1 + (2 << 32))) == expected


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_normal(count):
    # Drawn in double and rounded once; the libraries' log, cos and sin may differ in the last bit.
    expected = 0.02 * philox.normal(1337, "h.0.fcw", count)
    actual = ops.philox_normal(1337, "h.0.fcw", count, 0.02)
    np.testing.assert_allclose(actual, expected, rtol=2**-23, atol=0)


@pytest.mark.parametrize("count", [1, 6, 1000])
def test_uniform(count):
    expected = -0.5 + 0.75 * philox.uniform(42, "h.1.qkvb", count)
    actual = ops.philox_uniform(42, "h.1.qkvb", count, -0.5, 0.25)
    np.testing.assert_array_equal(actual, expected.astype(np.float32))
