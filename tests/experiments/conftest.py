"""The fixture `lab`: a small experiment with a stand-in for the trainer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from experiments.matrix_lab import MATRIX, Lab, write_model


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "matrix.toml").write_text(MATRIX)
    (tmp_path / "data").mkdir()
    for split in ("train", "val"):
        (tmp_path / "data" / f"t_{split}.bin").write_bytes(split.encode())
    write_model(tmp_path / "exp" / "model.bin")
    program = tmp_path / "train"
    source = Path(__file__).with_name("fake_train.py").read_text()
    program.write_text(f"#!{sys.executable} -IS\n{source}")
    program.chmod(0o755)
    monkeypatch.setenv("FAKE_STARTS", str(tmp_path / "starts"))
    monkeypatch.setenv("FAKE_ENDS", str(tmp_path / "ends"))
    monkeypatch.setenv("PYLLMC_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("FAKE_PLAN", raising=False)
    return Lab(tmp_path, program, monkeypatch)
