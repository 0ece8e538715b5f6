"""Token and position embedding against the float64 oracle."""

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle import compare, embedding

from pyllmc._core import ops

SHAPES = [(1, 1, 1, 3), (2, 7, 20, 11), (3, 50, 33, 5), (5, 13, 70, 40), (2, 150, 132, 2)]
IDS = [f"B{B}-T{T}-C{C}-V{V}" for B, T, C, V in SHAPES]


def draw(B, T, C, V):
    """tokens, wte, wpe, dx; the tables have rows that no token or position names."""
    rng = np.random.default_rng(B + T + C + V)
    tokens = rng.integers(0, V, (B, T), dtype=np.int32)
    shapes = [(V + 3, C), (T + 2, C), (B, T, C)]
    return [tokens, *(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)]


@pytest.mark.parametrize(("B", "T", "C", "V"), SHAPES, ids=IDS)
def test_forward(B, T, C, V, device):
    tokens, wte, wpe, _ = draw(B, T, C, V)
    # One addition: exact after rounding.
    expected = embedding.forward(tokens, wte.astype(np.float64), wpe.astype(np.float64))
    np.testing.assert_array_equal(
        ops.embedding_forward(tokens, wte, wpe, device=device), expected.astype(np.float32)
    )


def test_first_position_shifts_the_positions(device):
    tokens, wte, wpe, _ = draw(2, 7, 20, 11)
    expected = wte[tokens[:, :4]] + wpe[3:7]
    actual = ops.embedding_forward(tokens[:, :4], wte, wpe, first_position=3, device=device)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("B", "T", "C", "V"), SHAPES, ids=IDS)
def test_backward(B, T, C, V, device):
    tokens, wte, wpe, dx = draw(B, T, C, V)
    expected = embedding.backward(dx.astype(np.float64), tokens, wte * 1.0, wpe * 1.0)
    scales = embedding.backward(np.abs(dx), tokens, wte, wpe)
    sizes = {"vocab": V + 3, "positions": T + 2}
    actual = ops.embedding_backward(tokens, dx, **sizes, device=device)
    for got, want, scale in zip(actual, expected, scales, strict=True):
        assert compare.error(got, want, scale) <= compare.product_bound(B * T)


@pytest.mark.parametrize(("B", "T", "C", "V"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(B, T, C, V):
    tokens, wte, wpe, dx = draw(B, T, C, V)
    sizes = {"vocab": V + 3, "positions": T + 2}
    once = [ops.embedding_forward(tokens, wte, wpe), *ops.embedding_backward(tokens, dx, **sizes)]
    for n in (2, 3):
        again = [
            ops.embedding_forward(tokens, wte, wpe, threads=n),
            *ops.embedding_backward(tokens, dx, **sizes, threads=n),
        ]
        for first, second in zip(once, again, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("B", "T", "C", "V"), SHAPES, ids=IDS)
def test_any_order_of_threads_gives_the_same_bits(B, T, C, V, cuda, monkeypatch):
    tokens, wte, wpe, dx = draw(B, T, C, V)
    sizes = {"vocab": V + 3, "positions": T + 2}

    def call():
        x = ops.embedding_forward(tokens, wte, wpe, device=cuda)
        return [x, *ops.embedding_backward(tokens, dx, **sizes, device=cuda)]

    require_same_bits(call, monkeypatch)
