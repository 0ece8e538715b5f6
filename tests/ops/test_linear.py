"""The linear layer with its epilogues against the float64 oracle, on ragged shapes."""

import numpy as np
import pytest
from oracle import band, compare, gelu, linear

from pyllmc._core import ops

# One row, a handful of rows (another kernel), one tile, more rows or outputs than a tile holds.
SHAPES = [(1, 1, 1), (1, 37, 130), (4, 130, 65), (5, 20, 80), (7, 33, 19), (65, 300, 129)]
SHAPES += [(257, 40, 513), (300, 513, 33)]
IDS = [f"M{M}-K{K}-N{N}" for M, K, N in SHAPES]


def draw(M, K, N):
    """x, w, b, residual, dy in float32, and the same in float64."""
    rng = np.random.default_rng(M + K + N)
    shapes = [(M, K), (N, K), (N,), (M, N), (M, N)]
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    return arrays, [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_forward(M, K, N):
    (x, w, b, residual, _), (x64, w64, b64, residual64, _) = draw(M, K, N)
    expected = linear.forward(x64, w64)
    scale = linear.forward(np.abs(x64), np.abs(w64))
    bound = compare.product_bound(K)
    assert compare.error(ops.linear_forward(x, w), expected, scale) <= bound
    expected = expected + b64 + residual64
    scale = scale + np.abs(b64) + np.abs(residual64)
    assert compare.error(ops.linear_forward(x, w, b, residual), expected, scale) <= bound
    y, activated = ops.linear_forward(x, w, b, residual, gelu=True)
    assert compare.error(y, expected, scale) <= bound
    # |gelu'| < 1.13 passes on y's error; gelu adds five roundings of its own.
    assert compare.error(activated, gelu.forward(expected), scale) <= 1.13 * bound + 5 * compare.U


@pytest.mark.parametrize("with_gelu", [False, True], ids=["plain", "gelu"])
@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_backward(M, K, N, with_gelu):
    (x, w, _, _, dy), (x64, w64, _, _, dy64) = draw(M, K, N)
    dx, dw, db = linear.backward(dy64, x64, w64)
    dx_scale, dw_scale, db_scale = linear.backward(np.abs(dy64), np.abs(x64), np.abs(w64))
    if with_gelu:  # x stands in for the value before GELU
        dx, dx_scale = gelu.backward(dx, x64), dx_scale * (1 + np.abs(x64))
    actual = ops.linear_backward(dy, x, w, activation=x if with_gelu else None)
    assert compare.error(actual[0], dx, dx_scale) <= 1.13 * compare.product_bound(N) + 5 * compare.U
    assert compare.error(actual[1], dw, dw_scale) <= compare.product_bound(M)
    assert compare.error(actual[2], db, db_scale) <= compare.product_bound(M)


@pytest.mark.parametrize(
    ("C", "H", "bandwidth"), [(5, 12, 3), (20, 80, 1), (20, 80, 33), (33, 132, 40), (130, 520, 64)]
)
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_weight_gradient_is_zero_outside_the_band(layer, C, H, bandwidth):
    mask = band.fc1_mask(H, C, bandwidth) if layer == "fc1" else band.fc2_mask(C, H, bandwidth)
    N, K = mask.shape
    (x, w, _, _, dy), _ = draw(9, K, N)
    dx, dw, db = ops.linear_backward(dy, x, w)
    banded_dx, banded_dw, banded_db = ops.linear_backward(dy, x, w, bandwidth=bandwidth, threads=24)
    assert 0 < mask.sum() < mask.size
    assert not banded_dw[~mask].any()
    np.testing.assert_array_equal(banded_dw[mask], dw[mask])
    np.testing.assert_array_equal(banded_dx, dx)
    np.testing.assert_array_equal(banded_db, db)


@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(M, K, N):
    (x, w, b, residual, dy), _ = draw(M, K, N)
    once = [
        *ops.linear_forward(x, w, b, residual, gelu=True),
        *ops.linear_backward(dy, x, w, activation=x),
    ]
    for threads in (2, 3, 24):
        again = [
            *ops.linear_forward(x, w, b, residual, gelu=True, threads=threads),
            *ops.linear_backward(dy, x, w, activation=x, threads=threads),
        ]
        for first, second in zip(once, again, strict=True):
            np.testing.assert_array_equal(first, second)
