"""Causal attention against the float64 oracle, on ragged shapes and sharp softmaxes."""

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle import attention, bf16, compare

from pyllmc._core import ops
from pyllmc.errors import DeviceError

# T about one and two of the CPU's blocks of 48 queries and the GPU's of 64; head sizes 1 and odd
# ones among them.
SHAPES = [(1, 1, 1, 1), (2, 7, 20, 4), (1, 33, 15, 3), (2, 64, 12, 2), (1, 65, 34, 2)]
SHAPES += [(1, 131, 66, 1), (2, 40, 260, 2)]
SHAPES += [(1, T, 10, 2) for T in (47, 48, 49, 95, 96, 97)]
IDS = [f"B{B}-T{T}-C{C}-NH{NH}" for B, T, C, NH in SHAPES]


def draw(B, T, C, sharpness=1.0):
    """qkv and dout in float32, and the same in float64; the scores grow with sharpness."""
    rng = np.random.default_rng(B + T + C)
    qkv = rng.standard_normal((B, T, 3 * C), dtype=np.float32)
    qkv[..., :C] *= np.float32(sharpness)
    arrays = [qkv, rng.standard_normal((B, T, C), dtype=np.float32)]
    return arrays, [array.astype(np.float64) for array in arrays]


def score_roundings(qkv, NH):
    """Bound on a score's error: head size + 2 roundings of the largest sum of |q||k| / sqrt(hs).

    It is the relative error of a weight exp(score - log-sum-exp), up to a small factor.
    """
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    hs = C // NH
    q, k = (np.abs(qkv[..., i * C : (i + 1) * C]).reshape(B, T, NH, hs) for i in (0, 1))
    largest = np.einsum("bthc,bshc->bhts", q, k).max() / np.sqrt(hs)
    return compare.product_bound(hs) * (1 + largest)


@pytest.mark.parametrize("sharpness", [1.0, 20.0])
@pytest.mark.parametrize(("B", "T", "C", "NH"), SHAPES, ids=IDS)
def test_forward(B, T, C, NH, sharpness, device):
    (qkv32, _), (qkv, _) = draw(B, T, C, sharpness)
    out, _, lse = attention.forward(qkv, NH)
    absolute = np.concatenate([qkv[..., : 2 * C], np.abs(qkv[..., 2 * C :])], axis=-1)
    scale = attention.forward(absolute, NH)[0]  # the weights times |v|
    bound = 4 * score_roundings(qkv, NH) + compare.product_bound(T)
    actual_out, actual_lse = ops.attention_forward(qkv32, NH, device=device)
    assert compare.error(actual_out, out, scale) <= bound
    assert compare.error(actual_lse, lse, np.ones_like(lse)) <= bound


@pytest.mark.parametrize("sharpness", [1.0, 20.0])
@pytest.mark.parametrize(("B", "T", "C", "NH"), SHAPES, ids=IDS)
def test_backward(B, T, C, NH, sharpness, device):
    (qkv32, dout32), (qkv, dout) = draw(B, T, C, sharpness)
    out, probabilities, lse = attention.forward(qkv, NH)
    expected = attention.backward(dout, qkv, probabilities, NH)
    actual = ops.attention_backward(
        dout32, qkv32, out.astype(np.float32), lse.astype(np.float32), device=device
    )
    scale = backward_scale(dout, qkv, probabilities, NH)
    bound = 4 * score_roundings(qkv, NH) + compare.product_bound(2 * T + C // NH)
    assert compare.error(actual, expected, scale) <= bound


def backward_scale(dout, qkv, probabilities, NH):
    """The sums of absolute values behind dq | dk | dv."""
    B, T, C = dout.shape
    hs = C // NH
    heads = [
        np.abs(part).reshape(B, T, NH, hs).transpose(0, 2, 1, 3)
        for part in (*np.split(qkv, 3, axis=-1), dout)
    ]
    q, k, v, d = heads
    dp = d @ v.swapaxes(-1, -2)
    ds = probabilities * (dp + (dp * probabilities).sum(-1, keepdims=True)) / np.sqrt(hs)
    sums = [ds @ k, ds.swapaxes(-1, -2) @ q, probabilities.swapaxes(-1, -2) @ d]
    return np.concatenate([s.transpose(0, 2, 1, 3).reshape(B, T, C) for s in sums], axis=-1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_later_positions_have_no_influence(device, precision):
    (qkv, _), _ = draw(2, 70, 32)
    before, lse_before = ops.attention_forward(qkv, 4, precision=precision, device=device)
    qkv[:, 66:] = 1e6
    after, lse_after = ops.attention_forward(qkv, 4, precision=precision, device=device)
    np.testing.assert_array_equal(before[:, :66], after[:, :66])
    np.testing.assert_array_equal(lse_before[..., :66], lse_after[..., :66])


@pytest.mark.parametrize(("B", "T", "C", "NH"), SHAPES, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(B, T, C, NH):
    (qkv, dout), _ = draw(B, T, C)
    out, lse = ops.attention_forward(qkv, NH)
    gradient = ops.attention_backward(dout, qkv, out, lse)
    for n in (2, 3):
        again, lse_again = ops.attention_forward(qkv, NH, threads=n)
        np.testing.assert_array_equal(out, again)
        np.testing.assert_array_equal(lse, lse_again)
        np.testing.assert_array_equal(
            gradient, ops.attention_backward(dout, qkv, out, lse, threads=n)
        )


# Heads of 8 to 128 channels that the tensor cores take, and two kinds that they do not.
BF16_SHAPES = [(2, 9, 16, 2), (1, 130, 64, 2), (2, 65, 96, 2), (1, 64, 64, 1), (1, 70, 80, 1)]
BF16_SHAPES += [(1, 129, 256, 2), (2, 33, 15, 3), (1, 20, 136, 1)]
BF16_IDS = [f"B{B}-T{T}-C{C}-NH{NH}" for B, T, C, NH in BF16_SHAPES]


@pytest.mark.parametrize("sharpness", [1.0, 5.0])
@pytest.mark.parametrize(("B", "T", "C", "NH"), BF16_SHAPES, ids=BF16_IDS)
def test_bf16_activations(B, T, C, NH, sharpness, cuda):
    """Against the oracle on rounded inputs: 1e-2 of the sums of absolute values."""
    arrays, _ = draw(B, T, C, sharpness)
    qkv, dout = map(bf16.rounded, arrays)
    out, probabilities, lse = attention.forward(qkv, NH)
    where = {"precision": "bf16", "device": cuda}
    actual_out, actual_lse = ops.attention_forward(arrays[0], NH, **where)
    absolute = np.concatenate([qkv[..., : 2 * C], np.abs(qkv[..., 2 * C :])], axis=-1)
    assert compare.error(actual_out, out, attention.forward(absolute, NH)[0]) <= 1e-2
    assert compare.error(actual_lse, lse, np.ones_like(lse)) <= 4 * score_roundings(qkv, NH)
    expected = attention.backward(dout, qkv, probabilities, NH)
    scale = backward_scale(dout, qkv, probabilities, NH)
    actual = ops.attention_backward(arrays[1], arrays[0], actual_out, actual_lse, **where)
    assert compare.error(actual, expected, scale) <= 1e-2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("T", "C", "NH"), [(1, 1, 1), (9, 20, 4), (70, 66, 2), (40, 130, 1)])
def test_one_position_after_another_is_the_forward_pass(T, C, NH, precision, device):
    (qkv, _), _ = draw(1, T, C)
    rounds = (device, precision) == ("cuda", "bf16")  # the CPU's attention is fp32 in any case
    rounded = bf16.rounded(qkv) if rounds else qkv.astype(np.float64)
    expected = attention.forward(rounded, NH)[0]
    absolute = np.concatenate([rounded[..., : 2 * C], np.abs(rounded[..., 2 * C :])], axis=-1)
    scale = attention.forward(absolute, NH)[0]
    for capacity in (T, T + 3):
        actual = ops.attention_decode(qkv[0], NH, capacity, precision=precision, device=device)
        allowed = 1e-2 if rounds else 1e-5
        assert compare.error(actual, expected[0], scale[0]) <= allowed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("B", "T", "C", "NH"), BF16_SHAPES, ids=BF16_IDS)
def test_any_order_of_threads_gives_the_same_bits(B, T, C, NH, precision, cuda, monkeypatch):
    (qkv, dout), _ = draw(B, T, C)
    where = {"precision": precision, "device": cuda}

    def call():
        out, lse = ops.attention_forward(qkv, NH, **where)
        return [out, lse, ops.attention_backward(dout, qkv, out, lse, **where)]

    require_same_bits(call, monkeypatch)


def test_heads_that_no_kernel_takes_are_refused(cuda):
    qkv = np.zeros((1, 2, 3 * 300), np.float32)
    with pytest.raises(DeviceError, match="heads of 300 channels"):
        ops.attention_forward(qkv, 1, device=cuda)
