"""Models beside the band against the float64 oracle: patterns, widths, low rank, initial scale."""

import numpy as np
import pytest
from formats.llmc_files import CONFIG_KEYS, put
from formats.model_files import description, model_file, random_tensors
from oracle import gpt2
from oracle.inputs import write_tokens

from pyllmc._core import Model, Pattern, Trainer, init_checkpoint, read_model, read_model_header
from pyllmc.errors import UsageError

CONFIG = dict(zip(CONFIG_KEYS, (9, 37, 2, 4, 20, 40), strict=True))
C, H, L = 20, 80, 2
KINDS = ["random", "block", "band-permuted-residual", "band-permuted-hidden"]
FACTORS = {"fcinw": "fcw", "fcprojinw": "fcprojw"}


def write(tmp_path, **changes):
    """A model file of random weights: its path and its tensors."""
    about = description(CONFIG, **changes)
    tensors = random_tensors(about, seed=4)
    return str(put(tmp_path / "model.bin", model_file(about, tensors))), tensors


def full(tensors):
    """The same model with full weights: products of factors taken."""
    plain = {name: values.astype(np.float64) for name, values in tensors.items()}
    for factor, name in FACTORS.items():
        if factor in plain:
            plain[name] = plain[name] @ plain.pop(factor)
    return plain


def batch(seed=0):
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, 37, (2, 3, 9), dtype=np.int32)
    targets.flat[1::5] = -1
    return inputs, targets


def close(actual, expected, largest):
    floor = max(np.abs(expected).max(), 1e-3 * largest)
    return np.abs(actual - expected).max() <= 5e-6 * floor


SHAPES = {
    "narrow": {"hidden": 13},
    "wide": {"hidden": 111},
    "low-rank": {"mlp_rank": 6},
    "narrow-low-rank": {"hidden": 33, "mlp_rank": 20},
    "rank-1": {"mlp_rank": 1},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_loss_every_gradient_and_decoding_of_other_shapes(tmp_path, shape):
    path, tensors = write(tmp_path, **shape)
    oracle = gpt2.GPT2(full(tensors), CONFIG["num_heads"], CONFIG["vocab_size"])
    inputs, targets = batch()
    loss, expected = oracle.loss_and_gradients(inputs, targets)
    for factor, name in FACTORS.items():
        if factor in tensors:  # W = out in: dout = dW in^T, din = out^T dW
            out, inner = (tensors[n].astype(np.float64) for n in (name, factor))
            expected[factor] = out.transpose(0, 2, 1) @ expected[name]
            expected[name] = expected[name] @ inner.transpose(0, 2, 1)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    count = int((targets >= 0).sum())
    model = Model(path, gradients=True)
    total, counted, gradients = model.loss_and_gradients(inputs, targets, scale=1 / count)
    assert counted == count
    assert total / count == pytest.approx(loss, rel=1e-6)
    for layer in range(L):
        for name in (*gpt2.NAMES[2:-2], *(n for n in FACTORS if n in tensors)):
            actual = gradients[f"h.{layer}.{name}"]
            assert close(actual, expected[name][layer], largest), name
    for name in ("wte", "wpe", "lnfw", "lnfb"):
        assert close(gradients[name], expected[name], largest), name
    logits = oracle.forward(inputs[:1])[0][0, :, : CONFIG["vocab_size"]]
    assert close(Model(path).logits(inputs[0]), logits, np.abs(logits).max())


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_mask_the_weight_gradients_alone(tmp_path, kind):
    path, _ = write(tmp_path)
    dense = Model(path, gradients=True).loss_and_gradients(*batch())
    widths = {"fc1_bandwidth": [40, 80], "fc2_bandwidth": [0, 80]}
    model = Model(path, True, **widths, pattern=kind, mask_seed=5)
    masked = model.loss_and_gradients(*batch())
    assert masked[:2] == dense[:2]  # the weights themselves are still dense
    seen = 0
    for name, gradient in masked[2].items():
        layer, kept = name.split(".")[1:2], True
        for suffix, key, shape in (
            (".fcw", "fc1_bandwidth", (H, C, "rows")),
            (".fcprojw", "fc2_bandwidth", (C, H, "cols")),
        ):
            if name.endswith(suffix):
                width = widths[key][int(layer[0])]
                stem = f"h.{layer[0]}."
                kept = Pattern.make(kind, *shape, width, 5, stem, name).mask()
                seen += not kept.all()
        np.testing.assert_array_equal(gradient, dense[2][name] * kept)
    assert seen == 3  # FC1 of both layers, FC2 of one


def test_fc1_and_fc2_of_a_layer_share_their_shuffle_and_layers_do_not(tmp_path):
    path, _ = write(tmp_path)
    for kind in KINDS[2:]:
        model = Model(path, fc1_bandwidth=40, fc2_bandwidth=40, pattern=kind)
        masks = {p.name: p.pattern.mask() for p in model.parameters() if p.name.endswith("w")}
        for layer in range(L):
            np.testing.assert_array_equal(masks[f"h.{layer}.fcw"], masks[f"h.{layer}.fcprojw"].T)
        assert not np.array_equal(masks["h.0.fcw"], masks["h.1.fcw"])


def write_training(tmp_path):
    write_tokens(tmp_path / "train.bin", np.arange(700) % 37)
    return str(tmp_path / "train.bin")


def trained(path, data, steps=12, **settings):
    trainer = Trainer(
        path,
        data,
        batch_size=2,
        sequence_length=9,
        learning_rate=1e-2,
        steps=steps,
        **settings,
    )
    losses = [trainer.step()["loss"] for _ in range(steps)]
    return losses, {p.name: p.dense() for p in trainer.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_training_leaves_what_a_pattern_leaves_out_at_zero(tmp_path, kind):
    path, _ = write(tmp_path)
    data = write_training(tmp_path)
    losses, weights = trained(path, data, fc1_bandwidth=80, fc2_bandwidth=80, pattern=kind)
    assert losses[-1] < losses[0]
    for layer in range(L):
        mask = Pattern.make(kind, H, C, "rows", 80, 1337, f"h.{layer}.", f"h.{layer}.fcw").mask()
        assert not weights[f"h.{layer}.fcw"][~mask].any()
        assert weights[f"h.{layer}.fcw"][mask].all()


def test_hidden_units_by_other_names_train_to_the_same_model(tmp_path):
    """The A/A arm: with its initial weights renamed like its band, it repeats the band's run."""
    path, tensors = write(tmp_path)
    data = write_training(tmp_path)
    settings = {"fc1_bandwidth": 20, "fc2_bandwidth": 20}
    kind = "band-permuted-hidden"
    losses, weights = trained(path, data, **settings)
    renamed, order = dict(tensors), []
    for name in ("fcw", "fcb", "fcprojw"):
        renamed[name] = tensors[name].copy()
    for layer in range(L):
        stem = f"h.{layer}."
        order.append(order_of(H, 1337, stem))
        renamed["fcw"][layer][order[layer]] = tensors["fcw"][layer]
        renamed["fcb"][layer][order[layer]] = tensors["fcb"][layer]
        renamed["fcprojw"][layer][:, order[layer]] = tensors["fcprojw"][layer]
    other = put(tmp_path / "renamed.bin", model_file(description(CONFIG), renamed))
    found, shuffled = trained(str(other), data, **settings, pattern=kind)
    np.testing.assert_allclose(found, losses, rtol=2e-5)
    for layer in range(L):
        expected = weights[f"h.{layer}.fcw"]
        np.testing.assert_allclose(
            shuffled[f"h.{layer}.fcw"][order[layer]], expected, atol=1e-3 * np.abs(expected).max()
        )
    without, _ = trained(path, data, **settings, pattern=kind)
    assert abs(without[-1] - losses[-1]) > 1e-4  # it is the renaming that made them equal


def order_of(n, seed, layer):
    from oracle import controls

    return controls.shuffled(seed, "hidden order of " + layer, n)


def test_initial_scale_is_the_inverse_root_of_the_density(tmp_path):
    path, tensors = write(tmp_path)
    model = Model(path, fc1_bandwidth=[40, 0], fc2_bandwidth=[0, 20], pattern="random")
    model.scale_initial_weights()
    for p in model.parameters():
        stem, _, name = p.name.rpartition(".")
        source = tensors[name] if not stem else tensors[name][int(stem[-1])]
        factor = np.float32(1 / np.sqrt(p.pattern.density))
        assert (factor > 1) == (p.name in ("h.0.fcw", "h.1.fcprojw"))
        np.testing.assert_allclose(p.dense(), source * factor, rtol=1e-7)


def test_initial_weights_of_other_shapes(tmp_path):
    path = str(tmp_path / "m.bin")
    init_checkpoint(path, 64, 2, 4, 8, 30, "gpt2", 3, hidden=200, mlp_rank=16)
    header, tensors = read_model(path)
    assert (header["hidden"], header["mlp_rank"], header["init_seed"]) == (200, 16, 3)
    for factor, name in FACTORS.items():
        product = tensors[name] @ tensors[factor]
        stddev = 0.02 / (2 if name == "fcprojw" else 1)  # sqrt(2 L) = 2
        assert product.std() == pytest.approx(stddev, rel=0.1)
    init_checkpoint(path, 64, 2, 4, 8, 30, "gpt2", 3)
    assert read_model_header(path)["llmc"]
    equal = [n for n, v in read_model(path)[1].items() if n not in ("fcw", "fcb", "fcprojw")]
    for name in equal:  # equal names and shapes start alike in every arm
        np.testing.assert_array_equal(read_model(path)[1][name], tensors[name])


def test_a_checkpoint_says_its_pattern(tmp_path):
    path, _ = write(tmp_path)
    saved = str(tmp_path / "saved.bin")
    trainer = Trainer(
        path,
        write_training(tmp_path),
        batch_size=2,
        sequence_length=9,
        fc1_bandwidth=[40, 20],
        pattern="random",
        mask_seed=9,
    )
    trainer.step()
    trainer.save(saved)
    header, tensors = read_model(saved)
    assert (header["pattern"], header["mask_seed"]) == ("random", 9)
    assert (header["fc1_bandwidth"], header["step"]) == ([40, 20], 1)
    # What the file says gives the mask back: nothing lies outside.
    for p in Model(saved).parameters():
        if p.name.endswith(".fcw"):
            layer = int(p.name.split(".")[1])
            assert p.pattern.kept == np.count_nonzero(tensors["fcw"][layer])


def test_impossible_options_are_refused(tmp_path):
    path, _ = write(tmp_path, mlp_rank=4)
    with pytest.raises(UsageError, match="low-rank weight has no pattern"):
        Model(path, fc1_bandwidth=8)
    path, _ = write(tmp_path)
    with pytest.raises(UsageError, match="3 FC2 bandwidths were given, the model has 2 layers"):
        Model(path, fc2_bandwidth=[1, 2, 3])
    with pytest.raises(UsageError, match="no pattern called 'ring'"):
        Model(path, fc2_bandwidth=8, pattern="ring")
