"""The whole model against the float64 oracle: loss, every gradient, and cached decoding."""

import numpy as np
import pytest
from oracle import band, gpt2
from oracle.inputs import Shape, write_model

from pyllmc._core import Model

SHAPES = [
    Shape(B=1, T=1, C=3, L=1, NH=3, V=2, Vp=2, max_T=1),
    Shape(B=2, T=7, C=20, L=2, NH=4, V=37, Vp=40, max_T=9),
    Shape(B=3, T=33, C=33, L=1, NH=3, V=513, Vp=640, max_T=33),
    Shape(B=1, T=70, C=12, L=3, NH=2, V=130, Vp=130, max_T=71),
]


def draw_batch(shape):
    """inputs and targets; some targets are ignored."""
    rng = np.random.default_rng(shape.C)
    inputs, targets = rng.integers(0, shape.V, (2, shape.B, shape.T), dtype=np.int32)
    targets.flat[1::5] = -1
    return inputs, targets


def relative(actual, expected, floor=0.0):
    """Largest error relative to the largest entry of the tensor (at least `floor`).

    A gradient's entries share the roundings of everything behind them, so a small one among large
    ones is no better known than those; so also the key bias, whose true gradient is 0.
    """
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), floor)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_every_gradient(tmp_path, shape):
    oracle = write_model(tmp_path / "model.bin", shape)
    inputs, targets = draw_batch(shape)
    loss, expected = oracle.loss_and_gradients(inputs, targets)
    model = Model(str(tmp_path / "model.bin"), gradients=True)
    count = int((targets >= 0).sum())
    total, counted, gradients = model.loss_and_gradients(inputs, targets, scale=1 / count)
    assert counted == count
    assert total / count == pytest.approx(loss, rel=1e-6)
    assert model.loss(inputs, targets) == (total, count)
    expected = gpt2.by_layer(expected)
    assert sorted(gradients) == sorted(expected)
    # Float32 carries about 1e-7; through this depth some ten times of that were measured.
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in gradients.items():
        assert relative(gradient, expected[name], floor=1e-3 * largest) <= 5e-6, name
    assert not gradients["wte"][shape.V :].any()
    assert not gradients["wpe"][shape.T :].any()


@pytest.mark.parametrize(("fc1", "fc2"), [(9, 0), (0, 17), (9, 17)])
def test_bands_mask_the_weight_gradients_alone(tmp_path, fc1, fc2):
    shape = SHAPES[1]
    write_model(tmp_path / "model.bin", shape)
    batch = draw_batch(shape)
    path = str(tmp_path / "model.bin")
    dense = Model(path, gradients=True).loss_and_gradients(*batch)
    banded = Model(path, True, fc1_bandwidth=fc1, fc2_bandwidth=fc2).loss_and_gradients(*batch)
    assert banded[:2] == dense[:2]  # the weights themselves are still dense
    H = 4 * shape.C
    masks = {"fcw": band.fc1_mask(H, shape.C, fc1), "fcprojw": band.fc2_mask(shape.C, H, fc2)}
    for name, gradient in banded[2].items():
        mask = masks.get(name.split(".")[-1], True)
        np.testing.assert_array_equal(gradient, dense[2][name] * mask)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoding_gives_the_logits_of_the_whole_sequence(tmp_path, shape):
    oracle = write_model(tmp_path / "model.bin", shape)
    tokens = draw_batch(shape)[0][0]
    expected = oracle.forward(tokens[None])[0][0, :, : shape.V]
    actual = Model(str(tmp_path / "model.bin")).logits(tokens)
    assert relative(actual, expected) <= 2e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(tmp_path, shape):
    write_model(tmp_path / "model.bin", shape)
    batch = draw_batch(shape)
    path = str(tmp_path / "model.bin")
    once = Model(path, gradients=True)
    total, count, gradients = once.loss_and_gradients(*batch)
    for threads in (2, 3):
        again = Model(path, gradients=True, threads=threads)
        result = again.loss_and_gradients(*batch)
        assert result[:2] == (total, count)
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, result[2][name])
        np.testing.assert_array_equal(once.logits(batch[0][0]), again.logits(batch[0][0]))
