"""The programs and commands take a bf16 checkpoint wherever they take an fp32 one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from formats.llmc_files import put, token_file, tokenizer_file
from interop.hf_models import META, make_checkpoint

from pyllmc import _core, cli
from pyllmc.interop.llmc import export_llmc


@pytest.fixture
def models(tmp_path: Path) -> SimpleNamespace:
    """`bf16`, and `fp32` with the same values."""
    fp32, bf16 = tmp_path / "fp32.bin", tmp_path / "bf16.bin"
    full = make_checkpoint(tmp_path / "full.bin", **META)
    export_llmc(full, bf16, "bf16")
    export_llmc(bf16, fp32, "fp32")
    return SimpleNamespace(bf16=bf16, fp32=fp32)


def run(program: Path, *flags: object) -> str:
    done = subprocess.run([program, *map(str, flags)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_from_bf16_gives_the_bits_of_training_from_its_values_in_fp32(
    models: SimpleNamespace, programs: SimpleNamespace, tmp_path: Path
) -> None:
    tokens = np.random.default_rng(0).integers(0, 90, 200)
    data = put(tmp_path / "x_train.bin", token_file(tokens))
    for name in ("bf16", "fp32"):
        flags = [*("-e", getattr(models, name)), *("-c", tmp_path / name / "ckpt.bin")]
        flags += [*("-i", data), *("-j", data), *("-o", tmp_path / name / "log.txt")]
        run(programs.train_banded, *flags, *("-n", 2, "-b", 2, "-t", 8, "-m", 2, "--threads", 1))
    trained = [(tmp_path / name / "ckpt.bin").read_bytes() for name in ("bf16", "fp32")]
    assert trained[0] == trained[1]
    header = _core.read_checkpoint_header(tmp_path / "bf16" / "ckpt.bin")
    assert (header["precision"], header["step"]) == ("fp32", 2)
    logs = [(tmp_path / name / "log.txt").read_text() for name in ("bf16", "fp32")]
    assert logs[0] == logs[1] != ""


def test_generating_gives_the_same_text(
    models: SimpleNamespace, programs: SimpleNamespace, tmp_path: Path
) -> None:
    words = [*(bytes([i]) for i in range(32, 121)), b"<end>"]
    tokenizer = put(tmp_path / "t.bin", tokenizer_file(words, 89))
    flags = ["--tokenizer", tokenizer, "-n", 5, "-p", "ab", "--seed", 1]
    texts = [run(programs.generate_banded, "-e", m, *flags) for m in (models.bf16, models.fp32)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("ab")


def test_inspect_names_the_version(models: SimpleNamespace) -> None:
    for name, version in (("bf16", 5), ("fp32", 3)):
        path = str(getattr(models, name))
        result = CliRunner().invoke(cli.main, ["inspect", path], prog_name="pyllmc")
        assert result.exit_code == 0, result.output
        assert f"llm.c version {version} ({name})" in result.stdout
        assert "fc1 bandwidth 256" in " ".join(result.stdout.split())
