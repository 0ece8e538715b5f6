"""bf16 operands with fp32 sums: dense products and the head, and extreme logits in both precisions.

A product of two bf16 is exact in fp32, so against the oracle on rounded operands the bounds are
those of fp32. Against the oracle on the operands themselves they are 2^-7 and a little, relative to
the sum of the products' absolute values.
"""

import numpy as np
import pytest
from oracle import bf16, compare, cross_entropy, gelu, linear

from pyllmc._core import ops
from pyllmc.errors import UsageError

SHAPES = [(5, 20, 80), (7, 33, 19), (12, 64, 32), (13, 65, 33), (65, 300, 129), (192, 8, 31)]
SHAPES += [(257, 40, 513), (300, 513, 33), (6, 1, 1), (193, 1030, 5)]
IDS = [f"M{M}-K{K}-N{N}" for M, K, N in SHAPES]


def draw(M, K, N):
    """x, w, b, residual, dy, activation."""
    rng = np.random.default_rng(M + K + N)
    shapes = [(M, K), (N, K), (N,), (M, N), (M, N), (M, K)]
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def test_rounding_is_to_the_nearest_and_ties_go_to_the_even():
    #          tie to even 1, tie up to 1 + 2^-6, below and above a tie
    x = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 - 2**-20, 1 + 2**-8 + 2**-20, -3.0, 0.0]
    expected = [1, 1 + 2**-6, 1, 1 + 2**-7, -3, 0]
    np.testing.assert_array_equal(bf16.rounded(x), expected)
    # The core rounds the same: one product with 1 a row.
    y = ops.linear_forward(np.float32(x)[:, None], np.ones((1, 1), np.float32), precision="bf16")
    np.testing.assert_array_equal(y[:, 0], expected)


@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_forward(M, K, N):
    x, w, b, residual, _, _ = draw(M, K, N)
    bound = compare.product_bound(K)
    for operand, allowed in ((bf16.rounded, bound), (np.float64, bf16.PRODUCT + 2 * bound)):
        x64, w64 = operand(x), operand(w)
        expected, scale = linear.forward(x64, w64), linear.forward(np.abs(x64), np.abs(w64))
        actual = ops.linear_forward(x, w, precision="bf16")
        assert compare.error(actual, expected, scale) <= allowed <= 1e-2
        y, activated = ops.linear_forward(x, w, b, residual, gelu=True, precision="bf16")
        expected = expected + b.astype(np.float64) + residual
        scale = scale + np.abs(b) + np.abs(residual)
        assert compare.error(y, expected, scale) <= allowed
        assert compare.error(activated, gelu.forward(expected), scale) <= (
            1.13 * allowed + 5 * compare.U
        )


@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_backward(M, K, N):
    x, w, _, _, dy, activation = draw(M, K, N)
    for operand, extra in ((bf16.rounded, 0.0), (np.float64, bf16.PRODUCT)):
        x64, w64, dy64 = operand(x), operand(w), operand(dy)
        dx, dw, _ = linear.backward(dy64, x64, w64)
        dx_scale, dw_scale, _ = linear.backward(np.abs(dy64), np.abs(x64), np.abs(w64))
        actual = ops.linear_backward(dy, x, w, precision="bf16")
        dx_bound = extra + 2 * compare.product_bound(N)
        assert compare.error(actual[0], dx, dx_scale) <= dx_bound <= 1e-2
        assert compare.error(actual[1], dw, dw_scale) <= extra + 2 * compare.product_bound(M)
        slope = gelu.backward(np.ones_like(dx), activation.astype(np.float64))
        with_gelu = ops.linear_backward(dy, x, w, activation=activation, precision="bf16")
        dx_scale = dx_scale * (1 + np.abs(activation))
        assert compare.error(with_gelu[0], dx * slope, dx_scale) <= 1.13 * dx_bound + 5 * compare.U
    # The bias' gradient is a sum of what was not rounded.
    db, scale = dy.astype(np.float64).sum(axis=0), np.abs(dy.astype(np.float64)).sum(axis=0)
    assert compare.error(actual[2], db, scale) <= compare.product_bound(M)


def test_fp32_operands_are_not_rounded():
    x, w, *_ = draw(20, 64, 32)
    exact, rough = ops.linear_forward(x, w), ops.linear_forward(x, w, precision="bf16")
    expected = linear.forward(x.astype(np.float64), w)
    scale = linear.forward(np.abs(x), np.abs(w))
    assert compare.error(exact, expected, scale) <= compare.product_bound(64)
    assert compare.error(rough, expected, scale) > 10 * compare.product_bound(64)


@pytest.mark.parametrize("precision", ["FP32", "fp16", ""])
def test_there_is_no_other_precision(precision):
    x, w, *_ = draw(6, 2, 3)
    with pytest.raises(UsageError, match="fp32"):
        ops.linear_forward(x, w, precision=precision)


@pytest.mark.parametrize(("M", "K", "N"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(M, K, N):
    x, w, b, residual, dy, activation = draw(M, K, N)

    def run(threads):
        options = {"precision": "bf16", "threads": threads}
        return [
            *ops.linear_forward(x, w, b, residual, gelu=True, **options),
            *ops.linear_backward(dy, x, w, activation=activation, **options),
        ]

    once = run(1)
    for threads in (2, 3, 24):
        for first, second in zip(once, run(threads), strict=True):
            np.testing.assert_array_equal(first, second)


# ---- the head ------------------------------------------------------------------------------------

SCALE = np.float32(0.37)
OPERANDS = {"fp32": np.float64, "bf16": bf16.rounded}
HEADS = [(1, 1, 1, 1), (14, 20, 11, 16), (9, 33, 512, 512), (6, 8, 513, 640), (5, 7, 4111, 4224)]
HEADS += [(481, 5, 37, 40)]
HEAD_IDS = [f"M{M}-C{C}-V{V}-Vp{Vp}" for M, C, V, Vp in HEADS]


def check_head(x, wte, targets, V, precision):
    """One call against the oracle on the operands as the core sees them; returns the mean loss."""
    M, C = x.shape
    x64, wte64 = OPERANDS[precision](x), OPERANDS[precision](wte)
    logits = linear.forward(x64, wte64)
    expected, expected_count = cross_entropy.forward(logits, targets, V)
    dlogits = cross_entropy.backward(logits, targets, V, float(SCALE))
    dx, dwte, _ = linear.backward(dlogits, x64, wte64)
    largest = linear.forward(np.abs(x64), np.abs(wte64[:V])).max()
    kept = np.flatnonzero(targets >= 0)
    scales = np.abs(dlogits)
    scales[kept, targets[kept]] = float(SCALE)
    dx_scale, dwte_scale, _ = linear.backward(scales, np.abs(x64), np.abs(wte64))

    total, count, actual_dx, actual_dwte = ops.classifier(
        x, wte, targets, V, SCALE, precision=precision
    )
    logit_error = compare.product_bound(C) * (1 + largest)
    # The gradient of the logits is itself an operand.
    again = bf16.U * (1 + 4 * logit_error) if precision == "bf16" else 0.0
    assert count == expected_count
    assert abs(total - expected) <= 2 * count * logit_error
    dx_bound = again + 4 * logit_error + compare.product_bound(V)
    dwte_bound = again + 4 * logit_error + compare.product_bound(M)
    assert compare.error(actual_dx, dx, dx_scale) <= dx_bound
    assert compare.error(actual_dwte, dwte, dwte_scale) <= dwte_bound
    assert not actual_dwte[V:].any()
    assert ops.classifier(x, wte, targets, V, gradients=False, precision=precision) == (
        total, count,
    )  # fmt: skip
    return total / max(count, 1)


def draw_head(M, C, V, Vp, sharpness=1.0):
    rng = np.random.default_rng(M + C + V)
    x = rng.standard_normal((M, C), dtype=np.float32) * np.float32(sharpness)
    wte = rng.standard_normal((Vp, C), dtype=np.float32)
    wte[V:] = 100
    targets = rng.integers(0, V, M, dtype=np.int32)
    targets[2::3] = -1
    return x, wte, targets


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
@pytest.mark.parametrize(("M", "C", "V", "Vp"), HEADS, ids=HEAD_IDS)
def test_bf16_head(M, C, V, Vp, sharpness):
    check_head(*draw_head(M, C, V, Vp, sharpness), V, "bf16")


@pytest.mark.parametrize("precision", OPERANDS)
@pytest.mark.parametrize("V", [2, 37, 511, 512, 513, 1025, 4097])
def test_extreme_logits_and_targets_at_the_ends(V, precision):
    """Logits of exactly 80 and -80, whose losses are known."""

    def loss(target, logit, others):
        x, wte = np.float32([[80, 0, 0]]), np.ones((V + 5, 3), np.float32)
        wte[:V, 0] = others / 80
        wte[target, 0] = logit / 80
        wte[V:] = 100  # takes no part
        return check_head(x, wte, np.int32([target]), V, precision)

    for target in sorted({0, 1, V // 2, min(V - 1, 511), min(V - 1, 512), V - 2, V - 1}):
        assert loss(target, 80, -80) == 0
        assert loss(target, -80, 80) == pytest.approx(160 + np.log(V - 1), rel=1e-6)
        assert loss(target, 80, 80) == pytest.approx(np.log(V), abs=2e-5)
        assert loss(target, -80, -80) == pytest.approx(np.log(V), abs=2e-5)


def test_the_log_sum_exp_of_bf16_comes_from_fp32_sums():
    """4097 logits that differ by less than bf16 can tell near their size, 80."""
    V, rng = 4097, np.random.default_rng(2)
    x = bf16.rounded(rng.standard_normal((7, 64))).astype(np.float32)
    wte = bf16.rounded(rng.standard_normal((V, 64)) / 16).astype(np.float32)
    wte[:, 0], x[:, 0] = 80, 1
    logits = linear.forward(x.astype(np.float64), wte)
    targets = np.array([0, 1, 511, 512, 2048, V - 2, V - 1], np.int32)
    expected, _ = cross_entropy.forward(logits, targets, V)
    rough, _ = cross_entropy.forward(bf16.rounded(logits), targets, V)
    total, _ = ops.classifier(x, wte, targets, V, gradients=False, precision="bf16")
    assert abs(rough - expected) > 1e-3
    assert total == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("precision", OPERANDS)
@pytest.mark.parametrize(("M", "C", "V", "Vp"), HEADS, ids=HEAD_IDS)
def test_any_number_of_threads_gives_the_same_head(M, C, V, Vp, precision):
    x, wte, targets = draw_head(M, C, V, Vp)
    once = ops.classifier(x, wte, targets, V, SCALE, precision=precision)
    for threads in (2, 3, 24):
        again = ops.classifier(x, wte, targets, V, SCALE, precision=precision, threads=threads)
        for first, second in zip(once, again, strict=True):
            np.testing.assert_array_equal(first, second)
