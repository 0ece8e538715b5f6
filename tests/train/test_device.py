"""Training on CUDA against the CPU: on a GPU where PYLLMC_GPU_TESTS=1, else on its emulation."""

from __future__ import annotations

import ctypes
import gc
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ops.orders import require_same_bits
from oracle.inputs import Shape, write_model, write_tokens

from pyllmc._core import Model, Trainer
from pyllmc.errors import DeviceError, DivergedError, UsageError

pytestmark = pytest.mark.usefixtures("cuda")

SHAPE = Shape(B=2, T=11, C=32, L=2, NH=2, V=61, Vp=64, max_T=16)
PRECISIONS = ("fp32", "tf32", "bf16")
# Every way in which a step is put together.
CASES: dict[str, dict[str, Any]] = {
    "dense": {},
    "band": {"fc1_bandwidth": 40, "fc2_bandwidth": 31, "grad_clip": 0.5},
    "band-first-step-whole": {"fc1_bandwidth": 40, "mask_init": False},
    "mask": {"fc1_bandwidth": 40, "fc2_bandwidth": 31, "execution": "mask"},
    "mask-first-step-whole": {"fc2_bandwidth": 31, "execution": "mask", "mask_init": False},
    "random": {"fc1_bandwidth": 40, "pattern": "random"},
    "accumulate": {"accumulate": 3, "weight_decay": 0.1, "warmup": 3},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("device")
    write_model(folder / "model.bin", SHAPE)
    rng = np.random.default_rng(3)
    # Skewed, so that many positions of a batch share a token.
    tokens = np.minimum(rng.geometric(0.1, 1200) - 1, SHAPE.V - 1)
    write_tokens(folder / "train.bin", tokens)
    return SimpleNamespace(model=str(folder / "model.bin"), data=str(folder / "train.bin"))


def trainer_of(files: SimpleNamespace, device: str, precision: str = "fp32", **how: Any) -> Trainer:
    settings = {"learning_rate": 3e-3, "batch_size": SHAPE.B, "sequence_length": SHAPE.T} | how
    return Trainer(files.model, files.data, device=device, precision=precision, **settings)


def everything(trainer: Trainer) -> dict[str, np.ndarray]:
    """Weights and moments by name."""
    found = {p.name: p.dense() for p in trainer.parameters()}
    for slot, values in trainer.optimizer_state().items():
        found |= {f"{slot} {name}": array for name, array in values.items()}
    return found


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


# Seen on the emulation: 2e-8, 5e-5 and 3e-4.
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("tf32", 1e-3), ("bf16", 2e-3)])
@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_the_cpu(case, precision, bound, files):
    ours, theirs = (
        trainer_of(files, d, p, **CASES[case]) for d, p in [("cuda", precision), ("cpu", "fp32")]
    )
    for step in range(5):
        found, expected = ours.step(), theirs.step()
        assert found["step"] == step
        assert found["lr"] == expected["lr"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=bound)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=20 * bound)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fifty_steps_stay_with_the_cpu(precision, files):
    band = {"fc1_bandwidth": 40, "fc2_bandwidth": 40}
    ours, theirs = (
        trainer_of(files, d, p, **band) for d, p in [("cuda", precision), ("cpu", "fp32")]
    )
    for _ in range(50):
        assert ours.step()["loss"] == pytest.approx(theirs.step()["loss"], rel=5e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["band", "band-first-step-whole", "accumulate"])
def test_the_same_run_has_the_same_bits(case, precision, files):
    one, other = (trainer_of(files, "cuda", precision, **CASES[case]) for _ in range(2))
    for _ in range(4):
        assert one.step() == other.step()
    assert_same(everything(one), everything(other))


@pytest.mark.parametrize("case", ["dense", "band", "accumulate"])
def test_the_order_of_branches_and_threads_changes_no_bits(case, files, monkeypatch):
    def run():
        trainer = trainer_of(files, "cuda", "bf16", **CASES[case])
        for _ in range(3):  # the last is a replay
            trainer.step()
        return list(everything(trainer).values())

    require_same_bits(run, monkeypatch)


@pytest.mark.parametrize("case", CASES)
def test_nothing_lies_outside_the_pattern(case, files):
    trainer = trainer_of(files, "cuda", "bf16", **CASES[case])
    for _ in range(3):
        trainer.step()
    for p in trainer.parameters():
        if len(p.shape) == 2:
            assert not p.dense()[~p.pattern.mask()].any()


@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("case", ["band", "band-first-step-whole", "mask", "accumulate"])
def test_a_resumed_run_goes_on_to_the_bit(case, stop, files, tmp_path):
    unbroken = trainer_of(files, "cuda", "bf16", **CASES[case])
    results = [unbroken.step() for _ in range(4)]
    first = trainer_of(files, "cuda", "bf16", **CASES[case])
    for _ in range(stop):
        first.step()
    first.save_state(str(tmp_path))
    second = trainer_of(files, "cuda", "bf16", **CASES[case])
    assert second.resume(str(tmp_path)) == stop
    assert [second.step() for _ in range(4 - stop)] == results[stop:]
    assert_same(everything(second), everything(unbroken))


def test_a_state_of_the_cpu_is_refused_unless_the_machine_may_change(files, tmp_path):
    on_cpu = trainer_of(files, "cpu")
    on_cpu.step()
    on_cpu.save_state(str(tmp_path))
    on_gpu = trainer_of(files, "cuda")
    with pytest.raises(UsageError, match="instruction_set"):
        on_gpu.resume(str(tmp_path))
    assert on_gpu.resume(str(tmp_path), "machine") == 1
    assert on_gpu.step()["loss"] == pytest.approx(on_cpu.step()["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["wte", "h.1.fcw", "lnfb"])
def test_a_bad_gradient_changes_no_weight(name, files):
    trainer = trainer_of(files, "cuda", "bf16")
    for _ in range(3):  # the third step is a replay
        trainer.step()
    parameter = next(p for p in trainer.parameters() if p.name == name)
    values = parameter.dense()
    values.flat[7] = np.inf
    parameter.assign(values)
    before = everything(trainer)
    with pytest.raises(DivergedError, match="diverged at step 3"):
        trainer.step()
    assert_same(everything(trainer), before)


def test_evaluation_is_the_cpus(files):
    ours, theirs = trainer_of(files, "cuda"), trainer_of(files, "cpu")
    for batches in (1, 20, 3):  # more than are under way at once
        found = ours.evaluate(files.data, batches)
        expected = theirs.evaluate(files.data, batches)
        assert found[1] == expected[1]
        assert found[0] == pytest.approx(expected[0], rel=1e-6)
        ours.step()
        theirs.step()


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("tf32", 3e-3), ("bf16", 3e-2)])
@pytest.mark.parametrize("bandwidth", [0, 40], ids=["dense", "band"])
def test_decoding_is_the_cpus(bandwidth, precision, bound, files):
    bands = {"fc1_bandwidth": bandwidth, "fc2_bandwidth": bandwidth}
    tokens = np.arange(SHAPE.max_T, dtype=np.int32) * 7 % SHAPE.V
    ours = Model(files.model, device="cuda", precision=precision, **bands).logits(tokens)
    theirs = Model(files.model, **bands).logits(tokens)
    np.testing.assert_allclose(ours, theirs, atol=bound * np.abs(theirs).max())


def test_generated_text_is_the_cpus(files):
    ours, theirs = Model(files.model, device="cuda"), Model(files.model)
    for prompt in ([5], [1, 2, 3, 4, 5]):
        expected = theirs.generate(prompt, 9, temperature=0.8, seed=7)
        assert ours.generate(prompt, 9, temperature=0.8, seed=7) == expected


def test_gradients_of_a_batch_of_ones_own(files):
    ours, theirs = (Model(files.model, gradients=True, device=d) for d in ("cuda", "cpu"))
    rng = np.random.default_rng(0)
    for B, T in [(2, 5), (1, 16), (2, 5)]:
        inputs = rng.integers(0, SHAPE.V, (B, T)).astype(np.int32)
        targets = rng.integers(-1, SHAPE.V, (B, T)).astype(np.int32)
        found, expected = (m.loss_and_gradients(inputs, targets, 0.5) for m in (ours, theirs))
        assert found[:2] == (pytest.approx(expected[0], rel=1e-6), expected[1])
        for name, gradient in expected[2].items():
            bound = 1e-5 * np.abs(gradient).max()
            np.testing.assert_allclose(found[2][name], gradient, atol=bound, err_msg=name)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tokens_beyond_the_vocabulary_are_refused(device, files):
    model = Model(files.model, gradients=True, device=device)
    good = np.zeros((1, 3), np.int32)
    bad = np.array([[0, SHAPE.V, 0]], np.int32)
    for inputs, targets in ((bad, good), (good, bad)):
        with pytest.raises(UsageError, match=f"token {SHAPE.V} is not in the vocabulary"):
            model.loss(inputs, targets)


def test_a_run_that_does_not_fit_says_what_would(files):
    with pytest.raises(
        UsageError, match=r"needs .* of the GPU's memory .* would fit with batch size \d+ and accum"
    ):
        trainer_of(files, "cuda", batch_size=2**25)


def test_batches_that_cannot_be_page_locked_are_refused(files):
    with pytest.raises(
        UsageError, match=r"cannot allocate 1.\d TiB of page-locked memory for batches: .* free"
    ):
        trainer_of(files, "cuda", accumulate=2**31 - 1)


def test_only_a_gpu_has_tf32(files):
    with pytest.raises(UsageError, match="tf32 is of GPUs only"):
        trainer_of(files, "cpu", "tf32")


# Memory shared with other libraries


def parameters(trainer: Trainer) -> dict[str, Any]:
    return {p.name: p for p in trainer.parameters()}


def test_arrays_outlive_their_trainer(files):
    """What DLPack gives away is readable after the model is gone: `assign` reads it on the GPU."""
    source = trainer_of(files, "cuda", "bf16")
    source.step()
    shared = parameters(source)["h.0.fcw"].shared()
    expected = parameters(source)["h.0.fcw"].dense()
    del source
    gc.collect()
    target = parameters(trainer_of(files, "cuda"))["h.0.fcw"]
    assert (shared.shape, shared.dtype, shared.__dlpack_device__()) == (
        (128, 32),
        "float32",
        (2, 0),
    )
    target.assign(shared)
    np.testing.assert_array_equal(target.dense(), expected)


def test_bf16_copies_are_shared_too(files):
    trainer = trainer_of(files, "cuda", "bf16")
    trainer.step()
    parameter = parameters(trainer)["wpe"]
    copy = parameter.shared_bf16()
    assert copy.dtype == "bfloat16"
    values = parameter.dense()
    bits = values.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)
    parameter.assign(copy)
    np.testing.assert_array_equal(parameter.dense(), rounded)
    assert parameters(trainer_of(files, "cuda"))["wpe"].shared_bf16() is None


def test_what_is_assigned_reaches_the_bf16_copies(files):
    ours, theirs = trainer_of(files, "cuda", "bf16"), trainer_of(files, "cpu")
    for trainer in (ours, theirs):
        trainer.step()
        for parameter in trainer.parameters():
            if parameter.name.endswith("w"):
                parameter.assign(1.5 * parameter.dense())
    assert ours.step()["loss"] == pytest.approx(theirs.step()["loss"], rel=2e-3)


@pytest.mark.skipif(
    os.environ.get("PYLLMC_GPU_TESTS") != "1",
    reason="needs a GPU and CuPy: set PYLLMC_GPU_TESTS=1 where both are",
)
def test_cupy_sees_and_changes_the_weights(files):
    cupy = pytest.importorskip("cupy")
    trainer = trainer_of(files, "cuda", "bf16", fc1_bandwidth=40)
    view = parameters(trainer)["wte"].packed()
    assert isinstance(view, cupy.ndarray)
    np.testing.assert_array_equal(cupy.asnumpy(view), parameters(trainer)["wte"].dense())
    view[3, :] = 2
    cupy.cuda.Device().synchronize()
    assert (parameters(trainer)["wte"].dense()[3] == 2).all()
    del trainer
    gc.collect()
    assert float(view[3].sum()) == 2 * SHAPE.C


def zero_later(parameter: Any, library: str) -> None:
    """Lets another library set the weights to 0, on the null stream and not at once."""
    if os.environ.get("PYLLMC_GPU_TESTS") == "1":
        cupy = pytest.importorskip("cupy")
        slow = cupy.ones((8192, 8192), cupy.float32)
        for _ in range(50):
            slow = 0 * (slow @ slow)
        parameter.packed()[...] = slow[0, 0]
        return
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    managed = address(parameter.shared().__dlpack__(), b"dltensor")
    data = ctypes.c_void_p.from_address(managed)  # the structure's first member
    fill = ctypes.CDLL(library).emulation_fill_later
    fill(data, ctypes.c_float(0), ctypes.c_size_t(parameter.dense().size))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_what_others_write(precision, files, cuda_environment):
    trainer = trainer_of(files, "cuda", precision)
    trainer.step()
    zero_later(parameters(trainer)["wte"], cuda_environment["PYLLMC_CUDA_LIBRARY"])
    assert trainer.step()["loss"] == pytest.approx(np.log(SHAPE.V), rel=1e-6)


@pytest.mark.skipif(
    os.environ.get("PYLLMC_GPU_TESTS") == "1",
    reason="is for machines without CuPy: unset PYLLMC_GPU_TESTS",
)
def test_a_view_without_cupy_says_what_to_do(files):
    with pytest.raises(DeviceError, match="needs CuPy"):
        parameters(trainer_of(files, "cuda"))["wte"].packed()
