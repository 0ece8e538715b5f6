"""Ten updates against the float64 training run: losses, norms, rates, weights and moments."""

import numpy as np
import pytest
from oracle import adamw, data_order, gpt2
from oracle.compare import without_key_bias

from pyllmc._core import Trainer
from pyllmc.errors import DivergedError

STEPS = 10
LR = 1e-3
BANDS = {"fc1_bandwidth": 9, "fc2_bandwidth": 17}
SCHEDULE = {"warmup": 3, "min_lr": 1e-4}
CASES = {
    "dense": {},
    "fc1": {"fc1_bandwidth": 9},
    "fc2": {"fc2_bandwidth": 17},
    "bands-decay": {**BANDS, "weight_decay": 0.1},
    "bands-decay-first-step-dense": {**BANDS, "weight_decay": 0.1, "mask_init": False},
    "bands-decay-masked": {**BANDS, "weight_decay": 0.1, "execution": "mask"},
    "accumulate": {"accumulate": 3},
    "clip": {"grad_clip": 0.5},
    "warmup": {"warmup": 3},
    "warmup-cosine": SCHEDULE,
    "all": {
        **BANDS,
        **SCHEDULE,
        "weight_decay": 0.1,
        "mask_init": False,
        "accumulate": 2,
        "grad_clip": 0.5,
        "data_seed": 7,
    },
}


def train_oracle(files, case):
    """Trains files.oracle; returns its reports and moments."""
    ours = ("weight_decay", "accumulate", "execution")
    settings = {k: v for k, v in case.items() if k not in ours}
    seed = settings.pop("data_seed", 42)
    optimizer = adamw.Settings(weight_decay=case.get("weight_decay", 0.0))
    training = gpt2.Training(STEPS, LR, optimizer=optimizer, **settings)
    batches = files.batches(STEPS, case.get("accumulate", 1), seed)
    return files.oracle.train(batches, training)


def make_trainer(files, case, threads=1, device="cpu"):
    return Trainer(
        files.model,
        files.train_data,
        batch_size=files.shape.B,
        sequence_length=files.shape.T,
        learning_rate=LR,
        steps=STEPS,
        threads=threads,
        device=device,
        **case,
    )


def differences(name, actual, expected):
    return np.abs(without_key_bias(name, actual) - without_key_bias(name, expected))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ten_updates(files, case, device):
    losses, norms, rates, m, v = train_oracle(files, case)
    trainer = make_trainer(files, case, device=device)
    reports = [trainer.step() for _ in range(STEPS)]
    assert [report["step"] for report in reports] == list(range(STEPS))
    np.testing.assert_allclose([r["loss"] for r in reports], losses, rtol=2e-6)
    np.testing.assert_allclose([r["grad_norm"] for r in reports], norms, rtol=1e-5)
    np.testing.assert_allclose([r["lr"] for r in reports], rates, rtol=1e-6)
    if "grad_clip" in case:
        assert norms[0] > case["grad_clip"]

    parameters = {p.name: p.dense() for p in trainer.parameters()}
    expected = gpt2.by_layer(files.oracle.parameters)
    assert sorted(parameters) == sorted(expected)
    moments = trainer.optimizer_state()
    m, v = gpt2.by_layer(m), gpt2.by_layer(v)
    for name, values in parameters.items():
        # An entry moves by about LR an update whatever the size of its gradient, so the few whose
        # gradients are near 0 carry those gradients' large relative errors into the weight.
        difference = differences(name, values, expected[name])
        assert difference.max() <= 5e-3 * LR * STEPS, name
        assert difference.mean() <= 1e-4 * LR * STEPS, name
        for slot, want in (("m", m[name]), ("v", v[name])):
            difference = differences(name, moments[slot][name], want)
            assert difference.max() <= 1e-4 * np.abs(want).max(), (slot, name)


@pytest.mark.parametrize("execution", ["band", "mask"])
@pytest.mark.parametrize("mask_init", [True, False])
def test_weights_and_moments_stay_zero_outside_the_band(files, mask_init, execution, device):
    case = {**BANDS, "weight_decay": 0.1, "mask_init": mask_init, "execution": execution}
    trainer = make_trainer(files, case, device=device)
    masks = files.oracle.masks(gpt2.Training(STEPS, **BANDS))
    for step in range(STEPS + 1):
        moments = trainer.optimizer_state()
        for parameter in trainer.parameters():
            kind = parameter.name.split(".")[-1]
            if kind not in masks:
                assert parameter.pattern.is_dense
                continue
            outside = ~masks[kind]
            assert outside.any()
            assert not moments["m"][parameter.name][outside].any()
            assert not moments["v"][parameter.name][outside].any()
            weights = parameter.dense()[outside]
            if step == 0 and not mask_init:
                assert weights.all()  # the first forward is dense
            else:
                assert not weights.any()
        trainer.step()


def test_accumulation_is_one_large_batch(files):
    """Two micro-batches of 2 are the same update as the batch of 4 that they make."""
    micro = make_trainer(files, {"accumulate": 2}).step()
    (batches,) = files.batches(1, 2, 42)
    inputs, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    loss, gradients = files.oracle.loss_and_gradients(inputs, targets)
    assert micro["loss"] == pytest.approx(loss, rel=1e-6)
    assert micro["grad_norm"] == pytest.approx(adamw.global_norm(gradients), rel=1e-5)


def test_evaluation_reads_the_first_batches_in_order(files, device):
    trainer = make_trainer(files, {}, device=device)
    B, T = files.shape.B, files.shape.T
    for limit, count in [(1, 1), (5, 5), (100, 7)]:
        total, targets = trainer.evaluate(files.train_data, limit)
        assert targets == count * B * T
        places = [(0, chunk) for chunk in range(3)] + [(1, chunk) for chunk in range(4)]
        losses = [
            files.oracle.loss(*data_order.read(files.shards[shard], chunk, B, T))
            for shard, chunk in places[:count]
        ]
        assert total / targets == pytest.approx(np.mean(losses), rel=1e-6)


def test_assigned_values_are_projected_onto_the_pattern(files):
    trainer = make_trainer(files, BANDS)
    (parameter,) = [p for p in trainer.parameters() if p.name == "h.1.fcw"]
    parameter.assign(np.ones(parameter.shape, dtype=np.float32))
    np.testing.assert_array_equal(parameter.dense(), parameter.pattern.mask())
    shared = parameter.packed()
    shared.flat[0] = 5
    assert parameter.dense()[0, 0] == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_stops_before_the_update(files, value, device):
    trainer = make_trainer(files, {}, device=device)
    trainer.step()
    parameters = {p.name: p for p in trainer.parameters()}
    bias = parameters["lnfb"].dense()
    bias[3] = value
    parameters["lnfb"].assign(bias)
    before = {name: p.dense() for name, p in parameters.items()}
    moments = trainer.optimizer_state()
    with pytest.raises(DivergedError, match="step 1"):
        trainer.step()
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.dense(), before[name])
        for slot, arrays in trainer.optimizer_state().items():
            np.testing.assert_array_equal(arrays[name], moments[slot][name])
