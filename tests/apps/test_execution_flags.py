"""--execution and --precision: words that are refused, what is recorded, and resuming bands."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any

import numpy as np
import pytest
from apps.lab import C, L, Lab, refusal
from oracle.band import fc1_mask, fc2_mask

# Narrow enough that 16 channels are stored as bands.
BANDS = "-1 9 -2 20"
WORDS = f"{BANDS} -n 6 -k 1 -l 3e-3 -b 2 -v 3 -m 2 -g 0 --weight-decay 0.1 --grad-clip 0.5"


def run(lab: Lab, name: str, *words: object, **options: Any) -> Any:
    files = ("-c", f"{name}.bin", "-o", f"{name}.txt")
    return lab.train(WORDS, *files, *words, **options)


def finished(lab: Lab, name: str, *words: object) -> None:
    done = run(lab, name, *words)
    assert done.returncode == 0, done.stderr


def killed(lab: Lab, name: str, updates: int, *words: object) -> None:
    """A run that is killed in the middle of an update, when `updates` have been saved."""
    plan = os.environ | {"PYLLMC_FAULT": f"kill@update_made:{updates + 1}"}
    assert run(lab, name, *words, env=plan).returncode == -signal.SIGKILL


def left(lab: Lab, name: str) -> dict[str, Any]:
    """All that a run leaves, without what tells of the clock and of where it was resumed."""
    clock = ("ms", "tokens_per_second", "memory_bytes", "path")
    events = [
        {key: value for key, value in event.items() if key not in clock}
        for event in lab.events(name=name)
        if event["type"] != "resume"
    ]
    for event in events:
        event.pop("threads", None)
    states = sorted((lab.folder / f"{name}.state").glob("step_*/tensors.bin"))
    return {
        "events": events,
        "checkpoint": (lab.folder / f"{name}.bin").read_bytes(),
        "tensors": [path.read_bytes() for path in states],
    }


def train_losses(lab: Lab, name: str) -> list[float]:
    return [event["loss"] for event in lab.events("train", name)]


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--execution", "dense"),
        ("--execution", ""),
        ("--precision", "fp16"),
        ("--precision", "BF16"),
    ],
)
def test_other_words_are_refused(flag: str, word: str, lab: Lab) -> None:
    done = lab.run([*lab.train_command("-n", 1), flag, word])
    assert done.returncode == 2
    assert repr(word) in refusal(done)


def test_defaults_and_choices_are_recorded(lab: Lab) -> None:
    finished(lab, "default")
    finished(lab, "chosen", "--execution mask --precision bf16")
    recorded = [
        [lab.events("settings", name)[0][key] for key in ("execution", "precision")]
        for name in ("default", "chosen")
    ]
    assert recorded == [["band", "fp32"], ["mask", "bf16"]]
    assert train_losses(lab, "default") != train_losses(lab, "chosen")


def test_a_band_takes_less_memory_than_a_mask(lab: Lab) -> None:
    lab.model(channels=128)
    memory = {}
    for execution in ("band", "mask"):
        finished(lab, execution, "-n 0 -1 64 -2 64 --execution", execution)
        memory[execution] = lab.events("settings", execution)[0]["memory_bytes"]
    # Weights, gradients and two moments of 2 L matrices, at most a fifth of each kept.
    whole = 4 * 4 * 2 * L * 4 * 128 * 128
    assert memory["mask"] - memory["band"] > 0.75 * whole


# From a small process: what a child takes begins with what its parent had when it was forked.
PEAK_MEMORY = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_memory_of_the_change_to_bands_is_counted(lab: Lab) -> None:
    """--mask-init 0 stores whole weights until the first update, and for a moment both forms: what
    the run announces beyond a masked one is what the process takes beyond it."""
    lab.model(channels=512)
    announced, taken = {}, {}
    for execution in ("band", "mask"):
        words = f"-n 1 -b 1 -t 8 -m 1 -g 0 -1 512 -2 512 --mask-init 0 -o {execution}.txt"
        command = lab.train_command(words, "--execution", execution)
        done = lab.run([sys.executable, "-SIc", PEAK_MEMORY, *command])
        assert done.returncode == 0, done.stderr
        out, _, peak = done.stdout.rpartition("peak ")
        assert ("memory: change to bands" in re.sub(" +", " ", out)) == (execution == "band")
        announced[execution] = lab.events("settings", execution)[0]["memory_bytes"]
        taken[execution] = 1024 * int(peak)
    difference = announced["band"] - announced["mask"]
    assert difference > 4 * L * 12 * 512 * 512  # bytes of the weights but for embeddings
    assert taken["band"] - taken["mask"] == pytest.approx(difference, rel=0.15)


@pytest.mark.parametrize("mask_init", [0, 1])
def test_checkpoints_of_band_and_mask_agree(mask_init: int, lab: Lab) -> None:
    """Both are plain files, expanded: zeros outside the band and the same numbers inside."""
    for execution in ("band", "mask"):
        finished(lab, execution, "--mask-init", mask_init, "--execution", execution)
    (header, band), (mask_header, mask) = (lab.checkpoint(f"{n}.bin") for n in ("band", "mask"))
    assert header == mask_header
    outside = {"fcw": ~fc1_mask(4 * C, C, 9), "fcprojw": ~fc2_mask(C, 4 * C, 20)}
    for name, where in outside.items():
        assert not np.any(band[name][:, where])
        assert np.all(band[name][:, ~where])
    for name, tensor in mask.items():
        np.testing.assert_allclose(band[name], tensor, rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(train_losses(lab, "band"), train_losses(lab, "mask"), rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mask_init", [0, 1])
@pytest.mark.parametrize("updates", [0, 1, 3])
def test_resumed_on_either_side_of_the_change_over(
    updates: int, mask_init: int, precision: str, lab: Lab
) -> None:
    """With --mask-init 0 the first update is the masked one, and then the weights are packed."""
    words = ("--mask-init", mask_init, "--precision", precision)
    finished(lab, "run", *words)
    expected = left(lab, "run")
    for path in lab.folder.glob("run.*"):
        path.rename(lab.folder / f"unbroken_{path.name}")
    killed(lab, "run", updates, *words)
    finished(lab, "run", *words, "--resume --threads 3")
    if updates:
        assert [event["step"] for event in lab.events("resume", "run")] == [updates]
    found = left(lab, "run")
    for part, value in expected.items():
        assert found[part] == value, part


@pytest.mark.parametrize("words", ["--execution mask", "--precision bf16"])
def test_a_resumed_run_keeps_its_execution_and_precision_unless_told(words: str, lab: Lab) -> None:
    setting = words.split()[0].removeprefix("--")
    finished(lab, "unbroken")
    killed(lab, "run", 2)
    done = run(lab, "run", words, "--resume")
    assert done.returncode == 2
    assert setting in refusal(done)
    finished(lab, "run", words, "--resume --allow-changed", setting)
    expected, found = train_losses(lab, "unbroken"), train_losses(lab, "run")
    assert found[:2] == expected[:2]
    np.testing.assert_allclose(found, expected, rtol=1e-4 if "mask" in words else 5e-3)
    if "bf16" in words:
        assert found[2:] != expected[2:]


def test_samples_of_packed_weights_are_those_of_whole_ones(lab: Lab) -> None:
    lab.model(channels=128)
    texts = []
    for execution in ("band", "mask"):
        finished(lab, execution, "-n 4 -1 64 -2 64 -s 2 -g 16 --execution", execution)
        texts.append([event["text"] for event in lab.events("sample", execution)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


@pytest.mark.parametrize("words", ["", "--mask-init 0", "--precision bf16"])
def test_threads_do_not_change_a_bit(words: str, lab: Lab) -> None:
    # Wide enough for several tiles of the band and panels.
    lab.model(channels=144)
    many = f"{words} -n 3 -1 100 -2 61 -b 20"
    finished(lab, "one", many)
    for threads in (2, 3):
        finished(lab, "more", many, "--threads", threads)
        assert left(lab, "more")["checkpoint"] == left(lab, "one")["checkpoint"]
        assert left(lab, "more")["tensors"] == left(lab, "one")["tensors"]
        assert train_losses(lab, "more") == train_losses(lab, "one")
