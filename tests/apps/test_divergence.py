"""A loss or gradient that is not finite: exit 3, the step is said, no checkpoint is replaced."""

from __future__ import annotations

import pytest
from apps.lab import Lab, refusal

TRY = "try a lower learning rate, warm-up or gradient clipping"


def saved(lab: Lab) -> bytes:
    lab.trained("-n", 1, "-g", 0, "-c", "ckpt.bin")
    return (lab.folder / "ckpt.bin").read_bytes()


def test_a_step_that_diverges_is_not_made(lab: Lab) -> None:
    before = saved(lab)
    done = lab.train("-n", 50, "-v", 0, "-l", 1e30, "-o", "log.txt", "-c", "ckpt.bin")
    assert done.returncode == 3
    assert refusal(done) == f"diverged at step 1: the loss is nan; the update was not made; {TRY}"
    assert lab.events()[-1] == {"type": "end", "step": 1, "status": "diverged"}
    assert [line.split(":")[0:2] for line in lab.log()] == [["s", "0 tel"], ["s", "0 trl"]]
    assert (lab.folder / "ckpt.bin").read_bytes() == before


@pytest.mark.parametrize(("words", "step"), [("-n 1", 1), ("-n 50 -v 1", 1)], ids=["last", "next"])
def test_weights_that_validate_as_nan_are_not_saved(words: str, step: int, lab: Lab) -> None:
    before = saved(lab)
    done = lab.train(words, "-l", 1e30, "-o", "log.txt", "-c", "ckpt.bin")
    assert done.returncode == 3
    sentence = f"diverged at step {step}: the validation loss is nan; these weights were not saved"
    assert refusal(done) == f"{sentence}; {TRY}"
    assert lab.events()[-2:] == [
        {"type": "val", "step": step, "loss": None, "tokens": 384},
        {"type": "end", "step": step, "status": "diverged"},
    ]
    assert lab.log()[-1] == f"s:{step} tel:nan"
    assert (lab.folder / "ckpt.bin").read_bytes() == before


@pytest.mark.parametrize("steps", [0, 5])
def test_a_broken_model_is_named(steps: int, lab: Lab) -> None:
    before = saved(lab)
    lab.broken_model("broken.bin")
    done = lab.train("-n", steps, "-e", "broken.bin", "-o", "log.txt", "-c", "ckpt.bin")
    assert done.returncode == 3
    assert refusal(done) == (
        "diverged at step 0: the validation loss is nan; these weights were not saved; the weights "
        "of broken.bin are broken, start from another model"
    )
    assert lab.events()[-1] == {"type": "end", "step": 0, "status": "diverged"}
    assert (lab.folder / "ckpt.bin").read_bytes() == before
