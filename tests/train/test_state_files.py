"""What a training state holds, that every field of it counts, and how it is laid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apps.lab import Lab, make_lab
from train.run_lab import (
    ROOT,
    WORDS,
    changed,
    copy_of,
    edit,
    killed_at,
    leaves,
    outcome,
    prepare,
    read_state,
    states,
    write_manifest,
    write_state,
)

LAST = Path(ROOT) / "step_00000004"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, programs: Any) -> Lab:
    """A run killed after its fifth update, with one state: that of step 4."""
    lab = prepare(make_lab(tmp_path_factory.mktemp("killed"), programs))
    killed_at(lab, "update_made", times=5)
    for path in (lab.folder / ROOT / "step_00000002").iterdir():
        path.unlink()
    (lab.folder / ROOT / "step_00000002").rmdir()
    return lab


@pytest.fixture(scope="module")
def resumed(killed: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes of it when nothing is changed."""
    lab = copy_of(killed, tmp_path_factory.mktemp("resumed") / "run")
    lab.trained(*WORDS, "--resume")
    return outcome(lab)


def noticed(lab: Lab, resumed: dict[str, Any]) -> bool:
    """Whether a resumed run refuses, or leaves something else than `resumed`."""
    return lab.train(*WORDS, "--resume").returncode != 0 or outcome(lab) != resumed


def test_the_contents_are_those_of_the_run(killed: Lab, resumed: dict[str, Any]) -> None:
    manifest, tensors = read_state(killed.folder / LAST)
    assert (manifest["format"], manifest["step"]) == (1, 4)
    assert [tensor["name"] for tensor in manifest["tensors"]] == ["weights", "m", "v"]
    configuration = manifest["configuration"]
    assert {key: configuration[key] for key in ("learning_rate", "warmup", "min_lr", "steps")} == {
        "learning_rate": 3e-3, "warmup": 2, "min_lr": 1e-4, "steps": 9}  # fmt: skip
    assert {key: configuration[key] for key in ("data_seed", "mask_seed", "batch_size")} == {
        "data_seed": 42, "mask_seed": 1337, "batch_size": 2}  # fmt: skip
    assert manifest["run"]["configuration"]["init_seed"] == 1337
    # Four updates of two batches; an epoch has 3 + 5.
    assert {key: manifest["loader"][key] for key in ("batch", "epoch")} == {"batch": 8, "epoch": 1}
    assert len(configuration["train_fingerprint"]) == 16
    assert {"instruction_set", "build"} <= configuration.keys()
    vals = [event for event in killed.events("val") if event["step"] <= 4]
    best = min(vals, key=lambda event: event["loss"])
    assert manifest["run"]["best_val_loss"] == {"loss": best["loss"], "step": best["step"]}
    assert resumed["log"].encode()[: manifest["run"]["log"]["text_bytes"]].endswith(b"\n")
    assert sum(p["rows"] * p["cols"] for p in manifest["parameters"]) * 12 == len(tensors)


def test_the_weights_are_the_checkpoints_in_logical_order(killed: Lab) -> None:
    manifest, tensors = read_state(killed.folder / LAST)
    _, expected = killed.checkpoint()
    numbers = np.frombuffer(tensors, "<f4")
    at = 0
    for parameter in manifest["parameters"]:
        count = parameter["rows"] * parameter["cols"]
        *layer, name = parameter["name"].removeprefix("h.").split(".")
        whole = expected[name][int(layer[0])] if layer else expected[name]
        np.testing.assert_array_equal(numbers[at : at + count], whole.ravel(), err_msg=name)
        at += count
    moments = numbers[at:].reshape(2, at)
    assert np.count_nonzero(moments[0]) > at / 4
    assert (moments[1] >= 0).all()


def test_every_field_of_the_manifest_counts(
    killed: Lab, resumed: dict[str, Any], tmp_path: Path
) -> None:
    """Changed or left out, with its checksum right: refused, or another result."""
    manifest = read_state(killed.folder / LAST)[0]
    assert not noticed(copy_of(killed, tmp_path / "untouched"), resumed)
    # All parameters' entries are alike: one stands for them.
    fields = [
        path for path in leaves(manifest)
        if path != ("crc32",) and (path[0] != "parameters" or path[1] == 10)
    ]  # fmt: skip
    assert len(fields) > 50
    unnoticed = []
    for i, path in enumerate(fields):
        for what in ("changed", "left out"):
            lab = copy_of(killed, tmp_path / f"{i}-{what}")
            broken = json.loads(json.dumps(manifest))
            if what == "changed":
                edit(broken, path, lambda holder, key: holder.update({key: changed(holder[key])}))
            else:
                edit(broken, path, lambda holder, key: holder.pop(key))
            write_manifest(lab.folder / LAST, broken)
            if not noticed(lab, resumed):
                unnoticed.append((path, what))
    assert unnoticed == []


@pytest.mark.parametrize("tensor", ["weights", "m", "v"])
def test_every_tensor_counts(
    tensor: str, killed: Lab, resumed: dict[str, Any], tmp_path: Path
) -> None:
    manifest, tensors = read_state(killed.folder / LAST)
    entry = next(item for item in manifest["tensors"] if item["name"] == tensor)
    zeroed = bytearray(tensors)
    zeroed[entry["offset"] : entry["offset"] + entry["bytes"]] = bytes(entry["bytes"])
    lab = copy_of(killed, tmp_path / "zeroed")
    write_state(lab.folder / LAST, manifest, bytes(zeroed))
    read_state(lab.folder / LAST)
    assert noticed(lab, resumed)


def test_a_state_under_another_steps_name_is_refused(killed: Lab, tmp_path: Path) -> None:
    lab = copy_of(killed, tmp_path / "renamed")
    manifest, tensors = read_state(lab.folder / LAST)
    (lab.folder / LAST).rename(lab.folder / ROOT / "step_00000005")
    done = lab.train(*WORDS, "--resume")
    assert done.returncode == 4
    assert "step 4, its folder is called otherwise" in done.stderr
    # With the step in the manifest changed too, the data's position gives it away.
    write_state(lab.folder / ROOT / "step_00000005", manifest | {"step": 5}, tensors)
    done = lab.train(*WORDS, "--resume")
    assert done.returncode == 4
    assert "the state is damaged" in done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "tensors.bin"])
def test_any_damage_to_a_file_is_seen(name: str, killed: Lab, tmp_path: Path) -> None:
    size = (killed.folder / LAST / name).stat().st_size
    rng = np.random.default_rng(1)
    for i, place in enumerate([0, size - 1, *rng.integers(0, size, 12)]):
        lab = copy_of(killed, tmp_path / str(i))
        path = lab.folder / LAST / name
        data = bytearray(path.read_bytes())
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data if i % 2 else data[:place])
        done = lab.train(*WORDS, "--resume")
        assert done.returncode == 4, (place, done.stdout[-200:])
        assert name in done.stderr or "tensor" in done.stderr
        assert states(lab) == ["step_00000004"]
