"""Every oracle's backward against central differences, its forward against plain loops."""

import math

import numpy as np
import pytest
from oracle import attention, cross_entropy, differences, embedding, gelu, layernorm, linear


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def check(actual, function, *arrays):
    """`actual`: the gradients claimed for `arrays` of the number that function() computes."""
    for claimed, array in zip(actual, arrays, strict=True):
        numeric = differences.gradient(function, array)
        np.testing.assert_allclose(claimed, numeric, rtol=1e-7, atol=1e-8)


def test_embedding_adds_token_and_position(rng):
    tokens = np.array([[2, 0, 2], [1, 1, 4]])
    wte, wpe, dout = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), rng.normal(size=(2, 3, 4))
    out = embedding.forward(tokens, wte, wpe)
    for b, t in np.ndindex(2, 3):
        np.testing.assert_array_equal(out[b, t], wte[tokens[b, t]] + wpe[t])
    check(
        embedding.backward(dout, tokens, wte, wpe),
        lambda: (embedding.forward(tokens, wte, wpe) * dout).sum(),
        *(wte, wpe),
    )


def test_layernorm(rng):
    x, w, b = rng.normal(2, 3, size=(2, 3, 5)), rng.normal(size=5), rng.normal(size=5)
    dout = rng.normal(size=x.shape)
    out, mean, rstd = layernorm.forward(x, w, b)
    row = [float(value) for value in x[1, 2]]
    centre = sum(row) / 5
    spread = math.sqrt(sum((value - centre) ** 2 for value in row) / 5 + 1e-5)
    for c in range(5):
        assert out[1, 2, c] == pytest.approx((row[c] - centre) / spread * w[c] + b[c], rel=1e-13)
    check(
        layernorm.backward(dout, x, w, mean, rstd),
        lambda: (layernorm.forward(x, w, b)[0] * dout).sum(),
        *(x, w, b),
    )


def test_linear(rng):
    x, w, b = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    dout = rng.normal(size=(2, 3, 4))
    out = linear.forward(x, w, b)
    for bt, o in np.ndindex(6, 4):
        expected = b[o] + sum(x.reshape(6, 5)[bt, i] * w[o, i] for i in range(5))
        assert out.reshape(6, 4)[bt, o] == pytest.approx(expected, rel=1e-13)
    check(
        linear.backward(dout, x, w),
        lambda: (linear.forward(x, w, b) * dout).sum(),
        *(x, w, b),
    )


def test_gelu(rng):
    # Between the tails the tanh form is within 5e-4 of x times the normal distribution function.
    x = np.linspace(-6, 6, 101)
    exact = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    assert 1e-5 < np.abs(gelu.forward(x) - exact).max() < 5e-4
    dout = rng.normal(size=x.shape)
    check([gelu.backward(dout, x)], lambda: (gelu.forward(x) * dout).sum(), x)


@pytest.mark.parametrize("NH", [1, 2, 3])
def test_attention(rng, NH):
    B, T, C = 2, 5, 6
    hs = C // NH
    qkv, dout = rng.normal(size=(B, T, 3 * C)), rng.normal(size=(B, T, C))
    out, probabilities, lse = attention.forward(qkv, NH)
    for b, h, t in np.ndindex(B, NH, T):
        q = qkv[b, t, h * hs : (h + 1) * hs]
        keys = qkv[b, : t + 1, C + h * hs : C + (h + 1) * hs]
        values = qkv[b, : t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
        weights = np.exp(keys @ q / math.sqrt(hs))
        assert lse[b, h, t] == pytest.approx(math.log(weights.sum()), rel=1e-12)
        expected = weights @ values / weights.sum()
        np.testing.assert_allclose(out[b, t, h * hs : (h + 1) * hs], expected, rtol=1e-12)
    check(
        [attention.backward(dout, qkv, probabilities, NH)],
        lambda: (attention.forward(qkv, NH)[0] * dout).sum(),
        qkv,
    )


def test_attention_does_not_overflow():
    qkv = np.full((1, 3, 6), 40.0)
    qkv[0, 1] = -40.0
    out, probabilities, lse = attention.forward(qkv, 1)
    assert np.isfinite(out).all()
    assert np.isfinite(lse).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1)


def test_cross_entropy(rng):
    V, Vp = 5, 8
    logits = rng.normal(size=(2, 3, Vp))
    targets = np.array([[4, -1, 0], [2, 2, -100]])
    total, count = cross_entropy.forward(logits, targets, V)
    expected = 0.0
    for b, t in np.ndindex(2, 3):
        if targets[b, t] >= 0:
            weights = [math.exp(logits[b, t, k]) for k in range(V)]
            expected -= math.log(weights[targets[b, t]] / sum(weights))
    assert count == 4
    assert total == pytest.approx(expected, rel=1e-13)
    dlogits = cross_entropy.backward(logits, targets, V, scale=0.3)
    assert not dlogits[..., V:].any()
    assert not dlogits[targets < 0].any()
    check([dlogits], lambda: 0.3 * cross_entropy.forward(logits, targets, V)[0], logits)


def test_cross_entropy_does_not_overflow():
    logits = np.array([[1000.0, 0.0, 5000.0]])
    total, count = cross_entropy.forward(logits, np.array([1]), V=2)
    assert (total, count) == (1000.0, 1)
    np.testing.assert_allclose(
        cross_entropy.backward(logits, np.array([1]), 2, 1.0), [[1.0, -1.0, 0.0]]
    )
