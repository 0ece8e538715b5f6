"""`pyllmc inspect` on files that only pyllmc's own layout can say."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from pyllmc import cli
from pyllmc._core import Model, Pattern, init_checkpoint
from pyllmc.models import inspection
from pyllmc.models.inspection import PROFILE_BINS, inspect_checkpoint, weight_facts


def inspect(path, *words):
    result = CliRunner().invoke(cli.main, ["inspect", str(path), *words], prog_name="pyllmc")
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def plain(tmp_path):
    path = str(tmp_path / "plain.bin")
    init_checkpoint(path, 20, 2, 4, 8, 30, "gpt2", 1)
    return path


def masked(model, path):
    """Saves the model with what its patterns leave out at 0."""
    for p in model.parameters():
        p.assign(p.dense())
    model.save(str(path), 5)


def test_each_layers_density_is_of_the_recorded_pattern(tmp_path, plain):
    path = tmp_path / "m.bin"
    masked(Model(plain, fc1_bandwidth=[40, 0], pattern="random", mask_seed=4), path)
    result = inspect(path, "--json")
    assert not result.stderr
    found = json.loads(result.stdout)
    kept = Pattern.make("random", 80, 20, "rows", 40, 4, "h.0.", "h.0.fcw").kept
    rows = {(w["layer"], w["name"]): w for w in found["weights"]}
    assert (rows[0, "fc1"]["kept"], rows[0, "fc1"]["nonzero"]) == (kept, kept)
    assert rows[0, "fc1"]["inside"] == 1.0
    assert {rows[key]["kept"] for key in rows if key != (0, "fc1")} == {1600}
    text = inspect(path).stdout
    assert "pyllmc's own layout" in text
    assert "fc1 bandwidth 40,0, fc2 bandwidth 0 (0 = dense), random (mask seed 4)" in text


def test_weights_outside_the_pattern_are_told(tmp_path, plain):
    path = tmp_path / "m.bin"
    Model(plain, fc1_bandwidth=40, pattern="block").save(str(path), 5)
    assert "fc1: the header records bandwidth 40 as block, but up to" in inspect(path).stderr


def test_a_low_rank_model_counts_both_factors(tmp_path):
    path = str(tmp_path / "m.bin")
    init_checkpoint(path, 20, 2, 4, 8, 30, "gpt2", 1, hidden=50, mlp_rank=3)
    text = inspect(path).stdout
    assert "MLP: H = 50, weights of rank 3" in text
    assert text.count("210 /      210") == 4  # 3 (50 + 20)


class DeviceArray(np.ndarray):
    """Like a GPU's array: computes with its own kind and with numbers, never with NumPy's."""

    def __array_ufunc__(self, ufunc, method, *inputs, **how):
        if any(type(x) is np.ndarray for x in inputs):
            raise TypeError("an array of NumPy meets one of the device")
        plain = [x.view(np.ndarray) if isinstance(x, DeviceArray) else x for x in inputs]
        return np.asarray(getattr(ufunc, method)(*plain, **how)).view(DeviceArray)

    def __getitem__(self, key):
        if type(key) is np.ndarray:
            raise TypeError("an array of NumPy chooses from one of the device")
        return np.asarray(super().__getitem__(key)).view(DeviceArray)


def on_device(function):
    """A function of the stand-in module, which takes the device's arrays only."""

    def call(array):
        assert isinstance(array, DeviceArray)
        return np.asarray(function(array.view(np.ndarray))).view(DeviceArray)

    return call


DEVICE = SimpleNamespace(
    asarray=lambda values: np.asarray(values).view(DeviceArray),
    arange=lambda size: np.arange(size).view(DeviceArray),
    abs=on_device(np.abs),
    count_nonzero=on_device(np.count_nonzero),
    float64=np.float64,
)


def test_facts_of_a_weight_by_hand():
    weight = np.array([[1, -2], [0, 1], [0, 0], [3, 1]], np.float32)
    mask = np.array([[1, 1], [1, 1], [1, 1], [0, 1]], bool)
    # Distances |j C - i H| of 8 at most, in eighths: 0 4, 2 2, 4 0, 6 2.
    profile = [0.0] * PROFILE_BINS
    profile[0], profile[2], profile[4], profile[6] = 1 / 8, 2 / 8, 2 / 8, 3 / 8
    for hidden_is_rows in (True, False):
        turned = (weight, mask) if hidden_is_rows else (weight.T, mask.T)
        assert weight_facts(np, *turned, hidden_is_rows) == (5, 5 / 8, tuple(profile))


@pytest.fixture
def banded(tmp_path, plain):
    path = tmp_path / "banded.bin"
    Model(plain, fc1_bandwidth=40, fc2_bandwidth=[0, 16]).save(str(path), 5)
    return path


def test_another_array_module_finds_the_same(banded, monkeypatch):
    """The arrays that it is given stay its own until they are numbers."""
    expected = inspect_checkpoint(banded)
    monkeypatch.setattr(inspection, "array_module", {"cuda": DEVICE}.__getitem__)
    assert inspect_checkpoint(banded, "cuda") == expected
    assert any(not weight.agrees for weight in expected.weights)


def test_a_device_without_cupy_says_what_to_do(banded, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = ["inspect", str(banded), "--device", "cuda"]
    result = CliRunner().invoke(cli.main, words, prog_name="pyllmc")
    assert result.exit_code == 5
    assert "there is no CuPy that can use a GPU" in result.stderr
    assert "leave --device cuda out" in result.stderr


@pytest.mark.gpu
@pytest.mark.skipif(
    os.environ.get("PYLLMC_GPU_TESTS") != "1",
    reason="needs a GPU and CuPy: set PYLLMC_GPU_TESTS=1 where both are",
)
def test_a_gpu_finds_the_same(banded):
    pytest.importorskip("cupy", reason="no CuPy: pip install 'pyllmc[cuda]'")
    found, expected = (json.loads(inspect(banded, "--json", *where).stdout)
                       for where in (("--device", "cuda"), ()))  # fmt: skip
    for one, other in zip(found.pop("weights"), expected.pop("weights"), strict=True):
        for key in ("inside", "profile"):
            assert one.pop(key) == pytest.approx(other.pop(key), rel=1e-12)
        assert one == other
    assert found == expected
