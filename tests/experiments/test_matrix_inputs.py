"""Fingerprints of inputs, and inputs that the matrix makes itself."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from experiments.matrix_lab import Lab

from pyllmc.experiments import identity, inputs
from pyllmc.experiments.identity import data_fingerprint


def test_fingerprint_is_the_contents_hash_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"tokens")
    (tmp_path / "b.bin").write_bytes(b"tokens")
    expected = hashlib.sha256(b"tokens").hexdigest()
    assert data_fingerprint(str(tmp_path / "a.bin")) == expected
    assert data_fingerprint(str(tmp_path / "b.bin")) == expected


def test_fingerprint_of_shards_depends_on_their_order(tmp_path: Path) -> None:
    for name, text in {"a1": b"x", "a2": b"y", "b1": b"y", "b2": b"x", "c1": b"x"}.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "c2").write_bytes(b"y")
    first, swapped, again = (data_fingerprint(f"{tmp_path}/{letter}?") for letter in "abc")
    assert first == again
    assert first != swapped
    assert data_fingerprint(f"{tmp_path}/d?") is None


def test_large_file_takes_its_hash_from_the_record_unless_it_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_LARGE", 0)
    file = tmp_path / "t_train.bin"
    file.write_bytes(bytes(1024 + 2 * 5))
    read = hashlib.sha256(file.read_bytes()).hexdigest()
    assert data_fingerprint(str(file)) == read
    split = {"file": "t_train.bin", "tokens": 5, "sha256": "recorded"}
    (tmp_path / "t.json").write_text(json.dumps({"splits": {"train": split}}))
    assert data_fingerprint(str(file)) == "recorded"
    written = (tmp_path / "t.json").stat().st_mtime_ns
    file.write_bytes(bytes(1024 + 8) + b"\1\0")
    os.utime(file, ns=(written + 1, written + 1))
    assert data_fingerprint(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(bytes(1024 + 2 * 6))
    os.utime(file, ns=(written, written))
    assert data_fingerprint(str(file)) != "recorded"


@pytest.mark.parametrize("name", ["random", "ministories"])
def test_built_in_data_are_made_when_they_are_missing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(inputs, "_RANDOM_TOKENS", 1000)
    lab.edit('train = "data/t_train.bin"', f'train = "data/{name}_train.bin"')
    lab.edit('val = "data/t_val.bin"', f'val = "data/{name}_val.bin"\nprepare = "{name}"')
    assert f"needs data/{name}_train.bin" in lab.run("--dry-run").stdout
    assert lab.starts() == []
    assert lab.run("--only", "dense").exit_code == 0
    assert lab.state("dense")["state"] == "done"
    made = (lab.root / "data" / f"{name}_train.bin").read_bytes()
    assert int.from_bytes(made[:4], "little") == 20240520
    assert lab.run("--only", "dense").exit_code == 0
    assert lab.starts() == ["dense"]


def test_random_tokens_fill_the_models_vocabulary(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_RANDOM_TOKENS", 5000)
    data = "[run.data]\ntrain = 'r/random_train.bin'\nval = 'r/random_val.bin'\nprepare = 'random'"
    lab.edit("fc2_bandwidth = 16", f"fc2_bandwidth = 16\n{data}")
    assert lab.run("--only", "fc2_bw16").exit_code == 0
    tokens = memoryview((lab.root / "r" / "random_train.bin").read_bytes()[1024:]).cast("H")
    assert set(tokens) == set(range(64))
