"""LayerNorm against the float64 oracle, on ragged shapes and on rows far from 0."""

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle import bf16, compare, layernorm

from pyllmc._core import ops

# With rows that are read again, and rows that a GPU keeps in registers.
SHAPES = [(1, 1), (3, 2), (5, 20), (7, 33), (65, 130), (130, 768)]
SHAPES += [(300, 64), (40, 132), (9, 512), (5, 1024), (3, 1028)]
IDS = [f"rows{rows}-C{C}" for rows, C in SHAPES]
OFFSETS = [0.0, 30.0]
# About as many roundings as stand between x and a result; the sums run over sixteen lanes.
BOUND = 16 * compare.U


def draw(rows, C, offset):
    """x, weight, bias, dy in float32, and the same in float64."""
    rng = np.random.default_rng(rows + C)
    shapes = [(rows, C), (C,), (C,), (rows, C)]
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    arrays[0] += np.float32(offset)
    return arrays, [array.astype(np.float64) for array in arrays]


def reach(x, rstd):
    """(rows, 1) the largest |x| rstd of a row: what the rounding of x - mean is relative to."""
    return (np.abs(x).max(-1) * rstd)[:, None]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("rows", "C"), SHAPES, ids=IDS)
def test_forward(rows, C, offset, device):
    arrays, (x, w, b, _) = draw(rows, C, offset)
    y, mean, rstd = layernorm.forward(x, w, b)
    actual = ops.layernorm_forward(*arrays[:3], device=device)
    size = reach(x, rstd)
    assert compare.error(actual[0], y, np.abs(w) * size + np.abs(b)) <= BOUND
    assert compare.error(actual[1], mean, np.abs(x).mean(-1)) <= BOUND
    assert compare.error(actual[2], rstd, rstd * size[:, 0]) <= BOUND


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("rows", "C"), SHAPES, ids=IDS)
def test_backward(rows, C, offset, device):
    (x32, w32, _, dy32), (x, w, b, dy) = draw(rows, C, offset)
    _, mean, rstd = layernorm.forward(x, w, b)
    expected = layernorm.backward(dy, x, w, mean, rstd)
    # Given the rounded statistics, as training does.
    statistics = mean.astype(np.float32), rstd.astype(np.float32)
    dx, dweight, dbias = ops.layernorm_backward(dy32, x32, w32, *statistics, device=device)
    size = reach(x, rstd)
    spread = (np.abs(dy * w)).max(-1, keepdims=True)
    dx_scale = rstd[:, None] * spread * (1 + size) ** 2
    assert compare.error(dx, expected[0], dx_scale) <= BOUND
    assert compare.error(dweight, expected[1], (np.abs(dy) * size).sum(0)) <= BOUND
    assert compare.error(dbias, expected[2], np.abs(dy).sum(0)) <= BOUND


@pytest.mark.parametrize(("rows", "C"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(rows, C):
    (x, w, b, dy), _ = draw(rows, C, 0.0)
    _, mean, rstd = ops.layernorm_forward(x, w, b)
    once = [*ops.layernorm_forward(x, w, b), *ops.layernorm_backward(dy, x, w, mean, rstd)]
    for n in (2, 3):
        again = [
            *ops.layernorm_forward(x, w, b, threads=n),
            *ops.layernorm_backward(dy, x, w, mean, rstd, threads=n),
        ]
        for first, second in zip(once, again, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("rows", "C"), SHAPES, ids=IDS)
def test_bf16_activations(rows, C, cuda):
    """y and dy are bf16 in memory; nothing between them is rounded to it."""
    arrays, (x, w, b, dy) = draw(rows, C, 0.0)
    expected, mean, rstd = layernorm.forward(x, w, b)
    y, *statistics = ops.layernorm_forward(*arrays[:3], precision="bf16", device=cuda)
    size = reach(x, rstd)
    scale = np.abs(w) * size + np.abs(b)
    assert compare.error(y, expected, scale) <= bf16.U + BOUND
    rounded = bf16.rounded(dy)
    want = layernorm.backward(rounded, x, w, mean, rstd)
    got = ops.layernorm_backward(
        arrays[3], arrays[0], arrays[1], *statistics, precision="bf16", device=cuda
    )
    spread = (np.abs(rounded * w)).max(-1, keepdims=True)
    assert compare.error(got[0], want[0], rstd[:, None] * spread * (1 + size) ** 2) <= 2 * BOUND
    assert compare.error(got[1], want[1], (np.abs(rounded) * size).sum(0)) <= 2 * BOUND
    assert compare.error(got[2], want[2], np.abs(rounded).sum(0)) <= BOUND


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("rows", "C"), SHAPES, ids=IDS)
def test_any_order_of_threads_gives_the_same_bits(rows, C, precision, cuda, monkeypatch):
    (x, w, b, dy), _ = draw(rows, C, 0.0)
    where = {"precision": precision, "device": cuda}

    def call():
        y, mean, rstd = ops.layernorm_forward(x, w, b, **where)
        return [y, mean, rstd, *ops.layernorm_backward(dy, x, w, mean, rstd, **where)]

    require_same_bits(call, monkeypatch)
