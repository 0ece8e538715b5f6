"""The tied head with its loss against the oracles of linear and cross entropy put together."""

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle import bf16, compare, cross_entropy, linear

from pyllmc._core import ops

# V below, at and above the 512 rows of a vocabulary tile, and above eight of them (the groups that
# dx is added up in); M one above the 480 tokens of the CPU's largest chunk.
SHAPES = [(1, 1, 1, 1), (14, 20, 11, 16), (9, 33, 512, 512), (6, 8, 513, 640), (5, 7, 5000, 5120)]
SHAPES += [(481, 5, 37, 40), (3, 4, 30000, 30016)]
IDS = [f"M{M}-C{C}-V{V}-Vp{Vp}" for M, C, V, Vp in SHAPES]
SCALE = np.float32(0.37)


def draw(M, C, V, Vp, sharpness=1.0):
    """x, wte, targets; every third target is ignored, padded rows of wte are large."""
    rng = np.random.default_rng(M + C + V)
    x = rng.standard_normal((M, C), dtype=np.float32) * np.float32(sharpness)
    wte = rng.standard_normal((Vp, C), dtype=np.float32)
    wte[V:] = 100
    targets = rng.integers(0, V, M, dtype=np.int32)
    targets[2::3] = [-1, -100][M % 2]
    return x, wte, targets


def oracle(x, wte, targets, V):
    """Sum, count, dx, dwte, and the scales of sum, dx and dwte."""
    x, wte = x.astype(np.float64), wte.astype(np.float64)
    logits = linear.forward(x, wte)
    total, count = cross_entropy.forward(logits, targets, V)
    dlogits = cross_entropy.backward(logits, targets, V, float(SCALE))
    dx, dwte, _ = linear.backward(dlogits, x, wte)
    # A logit's rounding, relative to 1: K roundings of the largest sum of |x||w|.
    largest = linear.forward(np.abs(x), np.abs(wte[:V])).max()
    # p is off by p times that; p - 1 at the target by the same and by the rounding of 1.
    dlogits_scale = np.abs(dlogits)
    kept = np.flatnonzero(targets >= 0)
    dlogits_scale[kept, targets[kept]] = float(SCALE)
    dx_scale, dwte_scale, _ = linear.backward(dlogits_scale, np.abs(x), np.abs(wte))
    return (total, count, dx, dwte), (count * (1 + largest), dx_scale, dwte_scale), largest


def check(M, C, V, Vp, sharpness=1.0, device="cpu"):
    """One call against the oracle."""
    x, wte, targets = draw(M, C, V, Vp, sharpness)
    expected, scales, largest = oracle(x, wte, targets, V)
    total, count, dx, dwte = ops.classifier(x, wte, targets, V, SCALE, device=device)
    assert count == expected[1]
    logit_error = compare.product_bound(C) * (1 + largest)
    assert abs(total - expected[0]) <= 2 * compare.product_bound(C) * scales[0]
    assert compare.error(dx, expected[2], scales[1]) <= 4 * logit_error + compare.product_bound(V)
    assert compare.error(dwte, expected[3], scales[2]) <= 4 * logit_error + compare.product_bound(M)
    assert not dwte[V:].any()
    assert not dx[targets < 0].any()
    # The loss alone takes another path through memory, not another arithmetic.
    alone = ops.classifier(x, wte, targets, V, gradients=False, device=device)
    assert alone == (total, count)


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
@pytest.mark.parametrize(("M", "C", "V", "Vp"), SHAPES, ids=IDS)
def test_loss_and_gradients(M, C, V, Vp, sharpness, device):
    check(M, C, V, Vp, sharpness, device)


@pytest.mark.parametrize("M", [47, 48, 49, 95, 96, 97, 479, 480, 529, 960, 961])
def test_whole_steps_and_chunks(M):
    """The CPU packs 48 tokens together; of a small vocabulary 480 are a chunk."""
    check(M, 5, 37, 40)


def test_several_chunks_of_a_large_vocabulary():
    """A chunk has 16 Mi logits at most, in whole steps: of 175,000 words, 48 tokens."""
    check(49, 2, 175_000, 175_008)


def test_nothing_but_ignored_targets(device):
    x, wte, _ = draw(4, 5, 7, 8)
    total, count, dx, dwte = ops.classifier(x, wte, np.full(4, -1, np.int32), 7, device=device)
    assert (total, count) == (0, 0)
    assert not dx.any()
    assert not dwte.any()


@pytest.mark.parametrize(("M", "C", "V", "Vp"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(M, C, V, Vp):
    x, wte, targets = draw(M, C, V, Vp)
    once = ops.classifier(x, wte, targets, V, SCALE)
    for n in (2, 3, 24):
        again = ops.classifier(x, wte, targets, V, SCALE, threads=n)
        for first, second in zip(once, again, strict=True):
            np.testing.assert_array_equal(first, second)
        assert ops.classifier(x, wte, targets, V, gradients=False, threads=n) == once[:2]


# The products are the library's, which may cut TF32's operands off: 2^-10 of each.
@pytest.mark.parametrize(("precision", "allowed"), [("bf16", 1e-2), ("tf32", 2.0**-9)])
@pytest.mark.parametrize(("M", "C", "V", "Vp"), SHAPES, ids=IDS)
def test_rounded_operands(M, C, V, Vp, precision, allowed, cuda):
    """Relative to sums of absolute values. Logits, their gradients and dx are bf16 with bf16."""
    x, wte, targets = draw(M, C, V, Vp)
    if precision == "bf16":
        x, wte = (bf16.rounded(array).astype(np.float32) for array in (x, wte))
    expected, scales, largest = oracle(x, wte, targets, V)
    got = ops.classifier(x, wte, targets, V, SCALE, precision=precision, device=cuda)
    assert got[1] == expected[1]
    assert abs(got[0] - expected[0]) <= allowed * scales[0]
    for actual, want, scale in zip(got[2:], expected[2:], scales[1:], strict=True):
        assert compare.error(actual, want, scale) <= allowed * (1 + largest)
    assert not got[3][V:].any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("M", "C", "V", "Vp"), SHAPES, ids=IDS)
def test_any_order_of_threads_gives_the_same_bits(M, C, V, Vp, precision, cuda, monkeypatch):
    x, wte, targets = draw(M, C, V, Vp)
    where = {"precision": precision, "device": cuda}
    require_same_bits(lambda: ops.classifier(x, wte, targets, V, SCALE, **where), monkeypatch)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_makes_the_loss_so(value, device):
    x, wte, targets = draw(4, 5, 300, 320)
    x[1, 2] = value
    total, _ = ops.classifier(x, wte, targets, 300, gradients=False, device=device)
    assert not np.isfinite(total)
