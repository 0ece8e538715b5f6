"""The whole-model oracle against central differences, and its training loop's bookkeeping."""

import numpy as np
import pytest
from oracle import adamw, differences, gpt2

C, L, NH, MAX_T, V, VP, B, T = 6, 2, 2, 5, 7, 9, 2, 4


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def make_model():
    return gpt2.GPT2(gpt2.random_parameters(C, L, MAX_T, VP, seed=1), NH, V)


def make_batch(rng):
    return rng.integers(0, V, (B, T)), rng.integers(0, V, (B, T))


def test_every_gradient(rng):
    model = make_model()
    inputs, targets = make_batch(rng)
    targets[1, 2] = -1
    loss, gradients = model.loss_and_gradients(inputs, targets)
    assert loss == pytest.approx(model.loss(inputs, targets), rel=1e-14)
    for name, parameter in model.parameters.items():
        numeric = differences.gradient(lambda: model.loss(inputs, targets), parameter)
        np.testing.assert_allclose(gradients[name], numeric, rtol=1e-6, atol=1e-9, err_msg=name)
    # A key bias shifts all scores of a row alike, padded rows and late positions are never seen.
    assert np.abs(gradients["qkvb"][:, C : 2 * C]).max() < 1e-15
    assert not gradients["wte"][V:].any()
    assert not gradients["wpe"][T:].any()


def test_no_position_sees_a_later_one(rng):
    model = make_model()
    inputs, _ = make_batch(rng)
    before, _ = model.forward(inputs)
    inputs[:, 2] = (inputs[:, 2] + 1) % V
    after, _ = model.forward(inputs)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).all()


def test_accumulation_equals_one_large_batch(rng):
    model = make_model()
    inputs, targets = rng.integers(0, V, (6, T)), rng.integers(0, V, (6, T))
    targets[0] = -1
    whole_loss, whole = model.loss_and_gradients(inputs, targets)
    parts = [(inputs[i : i + 2], targets[i : i + 2]) for i in (0, 2, 4)]
    loss, gradients = model.accumulate(parts)
    assert loss == pytest.approx(whole_loss, rel=1e-14)
    for name in gpt2.NAMES:
        np.testing.assert_allclose(gradients[name], whole[name], rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("mask_init", [True, False])
def test_masks_hold_after_every_update(rng, mask_init):
    model = make_model()
    batch = make_batch(rng)
    dense_loss = model.loss(*batch)
    training = gpt2.Training(
        steps=2,
        fc1_bandwidth=9,
        fc2_bandwidth=7,
        mask_init=mask_init,
        optimizer=adamw.Settings(weight_decay=0.1),
    )
    losses, _, _, m, v = model.train([[batch], [batch]], training)
    assert np.isclose(losses[0], dense_loss, rtol=1e-12) == (not mask_init)
    masks = model.masks(training)
    assert set(masks) == {"fcw", "fcprojw"}
    for name, mask in masks.items():
        assert 0 < mask.sum() < mask.size
        for array in (model.parameters[name], m[name], v[name]):
            assert not array[:, ~mask].any()
            assert array[:, mask].all()


def test_training_lowers_the_loss_and_reports_it(rng):
    model = make_model()
    batch = make_batch(rng)
    first = model.loss(*batch)
    training = gpt2.Training(steps=30, learning_rate=0.01, warmup=3, min_lr=0.001, grad_clip=0.5)
    losses, norms, rates, _, _ = model.train([[batch]] * 30, training)
    assert losses[0] == pytest.approx(first, rel=1e-14)
    assert model.loss(*batch) < losses[-1] < 0.5 * first
    assert len(norms) == len(rates) == 30
    assert rates[2] == 0.01
    assert rates[-1] < 0.0011
    assert norms[0] > 0.5  # the norm before clipping
