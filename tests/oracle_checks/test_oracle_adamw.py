"""AdamW, clipping and schedules against arithmetic done by hand."""

import math

import numpy as np
import pytest
from oracle import adamw


def run(gradients, settings, lr=0.1, start=1.0, masks=None):
    """Updates of a 1x2 weight "w" with each of `gradients`; returns weight, m, v."""
    parameters = {"w": np.full((1, 2), start)}
    m, v = {"w": np.zeros((1, 2))}, {"w": np.zeros((1, 2))}
    for step, gradient in enumerate(gradients):
        grads = {"w": np.full((1, 2), gradient)}
        adamw.update(parameters, grads, m, v, step, lr, settings, ("w",), masks)
    return parameters["w"], m["w"], v["w"]


def test_two_updates_by_hand():
    settings = adamw.Settings(beta1=0.5, beta2=0.75, eps=0.01, weight_decay=0.2)
    w, m, v = run([3.0, -1.0], settings)
    # first: m 1.5, v 2.25; corrected 3 and 9
    first = 1.0 - 0.1 * (3.0 / (3.0 + 0.01) + 0.2 * 1.0)
    # second: m 0.75 - 0.5 = 0.25 over 1 - 0.25; v 1.6875 + 0.25 = 1.9375 over 1 - 0.5625
    m_hat, v_hat = 0.25 / 0.75, 1.9375 / 0.4375
    second = first - 0.1 * (m_hat / (math.sqrt(v_hat) + 0.01) + 0.2 * first)
    np.testing.assert_allclose(w, second, rtol=1e-15)
    np.testing.assert_allclose(m, 0.25)
    np.testing.assert_allclose(v, 1.9375)


def test_first_update_has_the_size_of_the_learning_rate():
    w, _, _ = run([1e-3], adamw.Settings())
    np.testing.assert_allclose(1.0 - w, 0.1, rtol=1e-4)


def test_decay_reaches_only_the_named():
    parameters = {"w": np.ones(2), "b": np.ones(2)}
    zeros = {n: np.zeros(2) for n in parameters}
    settings = adamw.Settings(weight_decay=0.5)
    adamw.update(parameters, zeros, dict(zeros), dict(zeros), 0, 0.1, settings, ("w",))
    np.testing.assert_allclose(parameters["w"], 0.95)
    np.testing.assert_array_equal(parameters["b"], 1.0)


def test_masked_entries_and_moments_stay_zero():
    masks = {"w": np.array([[True, False]])}
    w, m, v = run([3.0, -1.0, 2.0], adamw.Settings(weight_decay=0.1), masks=masks)
    dense, _, _ = run([3.0, -1.0, 2.0], adamw.Settings(weight_decay=0.1))
    assert w[0, 0] == dense[0, 0]
    assert (w[0, 1], m[0, 1], v[0, 1]) == (0, 0, 0)


def test_clipping():
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[-4.0]])}
    assert adamw.global_norm(gradients) == 5
    assert adamw.clip_scale(5.0, clip=2.0) == 0.4
    assert adamw.clip_scale(5.0, clip=5.0) == 1
    assert adamw.clip_scale(5.0, clip=0.0) == 1


def test_schedules():
    assert adamw.learning_rate(7, 3e-4) == 3e-4
    warm = [adamw.learning_rate(s, 8.0, warmup=4) for s in range(6)]
    assert warm == [2, 4, 6, 8, 8, 8]
    cosine = [adamw.learning_rate(s, 8.0, warmup=2, min_lr=2.0, steps=6) for s in range(7)]
    assert cosine == pytest.approx(
        [4, 8, 8, 5 + 3 * math.sqrt(0.5), 5, 5 - 3 * math.sqrt(0.5), 2], rel=1e-15
    )
