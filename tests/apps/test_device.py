"""The programs on CUDA: on a GPU where PYLLMC_GPU_TESTS=1, else on its emulation."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from apps.lab import Lab, make_lab

SHORT = "-n 3 -b 2 -t 8 -v 3 -m 2 -s 0 -g 6 -1 24 -c ckpt.bin -o log.txt"


@pytest.fixture
def lab(tmp_path: Path, programs: SimpleNamespace) -> Lab:
    lab = make_lab(tmp_path, programs)
    lab.tokenizer("words_tokenizer.bin")
    return lab


@pytest.fixture
def gpu(cuda_environment: dict[str, str]) -> dict[str, str]:
    """The environment in which a program finds the device."""
    return os.environ | cuda_environment


def test_training_on_cuda_is_told_and_leaves_the_same_files(lab: Lab, gpu: dict[str, str]) -> None:
    done = lab.train(SHORT, "--device cuda --precision bf16", env=gpu)
    assert done.returncode == 0, done.stderr
    assert "| device                | cuda: " in done.stdout
    on_gpu = lab.events("train")
    settings = lab.events("settings")[0]
    assert settings["device"] == "cuda"
    assert settings["precision"] == "bf16"
    assert settings["kernels"].startswith("cuda ")
    header, tensors = lab.checkpoint()
    lab.trained(SHORT, "--device cpu")
    on_cpu = lab.events("train")
    assert [list(event) for event in on_gpu] == [list(event) for event in on_cpu]
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3)
    expected, theirs = lab.checkpoint()
    assert header == expected
    assert {name: t.shape for name, t in tensors.items()} == {
        name: t.shape for name, t in theirs.items()
    }


def test_a_killed_run_resumes_to_the_same_log(lab: Lab, gpu: dict[str, str]) -> None:
    words = (SHORT, "--device cuda --precision bf16 -k 1 --mask-init 0")
    assert lab.train(*words, env=gpu).returncode == 0
    unbroken, checkpoint = lab.log(), (lab.folder / "ckpt.bin").read_bytes()
    plan = gpu | {"PYLLMC_FAULT": "kill@update_made:2"}
    assert lab.train(*words, env=plan).returncode < 0
    done = lab.train(*words, "--resume", env=gpu)
    assert done.returncode == 0, done.stderr
    assert "resuming from ckpt.state/step_00000001 (step 1)" in done.stdout
    assert lab.log() == unbroken
    assert (lab.folder / "ckpt.bin").read_bytes() == checkpoint


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_text_is_generated_on_cuda(lab: Lab, gpu: dict[str, str], precision: str) -> None:
    program = [str(lab.programs.generate_banded), "-e", "model.bin", "-n", "9", "-s", "3"]
    texts = [
        lab.run([*program, "--device", "cuda", "--precision", precision], env=gpu) for _ in range(2)
    ]
    assert texts[0].returncode == 0, texts[0].stderr
    assert texts[0].stdout == texts[1].stdout
    if precision == "fp32":
        assert texts[0].stdout == lab.run([*program, "--device", "cpu"]).stdout


@pytest.mark.skipif(
    os.environ.get("PYLLMC_GPU_TESTS") == "1",
    reason="auto takes a GPU here: run without PYLLMC_GPU_TESTS=1",
)
def test_auto_never_takes_the_emulation(lab: Lab, gpu: dict[str, str]) -> None:
    done = lab.train(SHORT, env=gpu)
    assert "| device                | cpu " in done.stdout


# Without a library or with another program's


@pytest.mark.parametrize("program", ["train", "generate"])
def test_cuda_that_is_not_there_is_exit_code_5(lab: Lab, program: str) -> None:
    missing = os.environ | {"PYLLMC_CUDA_LIBRARY": str(lab.folder / "none.so")}
    command = {
        "train": lab.train_command(SHORT),
        "generate": [str(lab.programs.generate_banded), "-e", "model.bin"],
    }[program]
    done = lab.run([*command, "--device", "cuda"], env=missing)
    assert done.returncode == 5
    assert done.stderr.endswith(
        f"there is no {lab.folder}/none.so: `make cuda` or PYLLMC_CUDA=1 pip install builds it\n"
    )


def test_a_library_that_is_none_is_told(lab: Lab) -> None:
    (lab.folder / "broken.so").write_text("not a library")
    broken = os.environ | {"PYLLMC_CUDA_LIBRARY": str(lab.folder / "broken.so")}
    done = lab.train(SHORT, "--device cuda", env=broken)
    assert done.returncode == 5
    assert "the CUDA library cannot be opened" in done.stderr
    assert lab.train(SHORT, "--device auto", env=broken).returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--device gpu", "there is no device called 'gpu': use auto, cpu or cuda"),
        ("--device cpu --precision tf32", "precision tf32 is of GPUs only"),
        ("--precision fp16", "there is no precision called 'fp16': use fp32, bf16 or tf32"),
    ],
)
def test_what_cannot_be_is_refused(lab: Lab, words: str, sentence: str) -> None:
    done = lab.train(SHORT, words)
    assert done.returncode == 2
    assert sentence in done.stderr
