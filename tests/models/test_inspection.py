"""`pyllmc inspect` on files that only pyllmc's own layout can say."""

import json

import pytest
from click.testing import CliRunner

from pyllmc import cli
from pyllmc._core import Model, Pattern, init_checkpoint


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
