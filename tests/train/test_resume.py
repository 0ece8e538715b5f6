"""--resume: what it continues from, what it refuses, and how a run is stopped."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apps.lab import Lab, refusal
from train.run_lab import (
    ROOT,
    WORDS,
    assert_same,
    copy_of,
    finish,
    killed_at,
    outcome,
    read_state,
    states,
)

from pyllmc._core import Trainer
from pyllmc.errors import FormatError, UsageError


@pytest.fixture
def run(fresh: Lab, tmp_path: Path) -> Lab:
    return copy_of(fresh, tmp_path / "run")


@pytest.fixture
def killed(run: Lab) -> Lab:
    """A run killed after its fifth update: states 2 and 4 are there."""
    assert killed_at(run, "update_made", times=5).returncode == -signal.SIGKILL
    assert states(run) == ["step_00000002", "step_00000004"]
    return run


def test_it_says_which_state_is_taken(killed: Lab, unbroken: dict[str, Any]) -> None:
    assert f"resuming from {ROOT}/step_00000004 (step 4)\n" in finish(killed)
    assert killed.events("resume") == [
        {"type": "resume", "step": 4, "state": f"{ROOT}/step_00000004", "changed": "", "threads": 1}
    ]
    assert_same(killed, unbroken)


@pytest.mark.parametrize(
    "words",
    ["--mask-init 0", "--mask-init 0 --execution mask", "--precision bf16", "--pattern random",
     "-1 24,8 -2 0 --init-scale inverse-sqrt-density"],
)  # fmt: skip
@pytest.mark.parametrize("updates", [1, 3])
def test_every_kind_of_run_goes_on(words: str, updates: int, run: Lab) -> None:
    """Stopped after the first update, when an unmasked start is banded at last, and later."""
    whole = copy_of(run, run.folder.parent / "whole")
    every = ("-k", 1, *words.split())
    whole.trained(*WORDS, *every)
    assert killed_at(run, "update_made", *every, times=updates + 1).returncode == -9
    assert f"step_0000000{updates}" in finish(run, *every)
    assert_same(run, outcome(whole))


@pytest.mark.parametrize("threads", [(1, 2), (2, 1), (2, 2)], ids=str)
def test_threads_before_and_after_make_no_difference(
    threads: tuple[int, int], run: Lab, unbroken: dict[str, Any]
) -> None:
    assert killed_at(run, "update_made", "--threads", threads[0], times=7).returncode == -9
    finish(run, "--threads", threads[1])
    assert_same(run, unbroken)


def test_without_any_state_it_starts_and_says_so(run: Lab, unbroken: dict[str, Any]) -> None:
    assert f"--resume: there is no state in {ROOT} yet, starting at step 0\n" in finish(run)
    assert_same(run, unbroken)


def test_a_finished_run_is_left_alone(run: Lab) -> None:
    run.trained(*WORDS)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert finish(run) == ("nothing to do: the run is finished, ckpt.bin holds its last step, 9\n")
    after = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_finished_run_may_be_given_more_steps(run: Lab) -> None:
    words = [*WORDS]
    words[words.index("--min-lr") : words.index("--min-lr") + 2] = []
    longer = copy_of(run, run.folder.parent / "longer")
    run.trained(*words, "-n", 6)
    run.trained(*words, "--resume", "--allow-changed", "steps")
    longer.trained(*words)
    assert (run.folder / "ckpt.bin").read_bytes() == (longer.folder / "ckpt.bin").read_bytes()


def test_a_damaged_state_is_passed_over_with_a_warning(
    killed: Lab, unbroken: dict[str, Any]
) -> None:
    tensors = killed.folder / ROOT / "step_00000004" / "tensors.bin"
    data = bytearray(tensors.read_bytes())
    data[100] ^= 1
    tensors.write_bytes(data)
    done = killed.train(*WORDS, "--resume")
    assert done.returncode == 0
    assert "resuming from ckpt.state/step_00000002 (step 2)\n" in done.stdout
    assert (
        'step_00000004 is no state that can be used: tensor "weights" has the chec' in done.stderr
    )
    assert (killed.folder / ROOT / "damaged-step_00000004").is_dir()
    assert_same(killed, {k: v for k, v in unbroken.items() if k != "files"})


def test_when_no_state_can_be_read_it_fails_and_says_why_for_each(killed: Lab) -> None:
    (killed.folder / ROOT / "step_00000002" / "manifest.json").unlink()
    manifest = killed.folder / ROOT / "step_00000004" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    before = (killed.folder / "log.txt").read_bytes()
    done = killed.train(*WORDS, "--resume")
    assert done.returncode == 4
    sentence = refusal(done)
    assert sentence.startswith(f"no state under {ROOT} can be read, so this run cannot be resumed:")
    assert "step_00000002/manifest.json: No such file" in sentence
    assert "step_00000004/manifest.json has another checksum" in sentence
    assert (killed.folder / "log.txt").read_bytes() == before


CHANGES = {
    "-b 1": "batch_size was 2 and is 1",
    "-t 4": "sequence_length was 8 and is 4",
    "--accumulate 1": "accumulate was 2 and is 1",
    "-l 2e-3": "learning_rate was 0.003 and is 0.002",
    "--warmup 3": "warmup was 2 and is 3",
    "--min-lr 2e-4": "min_lr was 1e-04 and is 2e-04",
    "-n 12": "steps was 9 and is 12",
    "--data-seed 1": "data_seed was 42 and is 1",
    "--grad-clip 1": "grad_clip was 0.5 and is 1",
    "-v 2": "val_every was 3 and is 2",
    "-i part_0.bin": "train_tokens was 150 and is 60",
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_is_refused_with_the_difference_unless_allowed(words: str, killed: Lab) -> None:
    files = sorted(killed.folder.rglob("*"))
    done = killed.train(*WORDS, "--resume", *words.split())
    assert done.returncode == 2
    sentence = refusal(done)
    assert sentence.startswith(f"{ROOT}/step_00000004 was saved by another run: ")
    assert CHANGES[words] in sentence
    assert sorted(killed.folder.rglob("*")) == files
    allowed = sentence.split("--allow-changed ")[1]
    done = killed.train(*WORDS, "--resume", *words.split(), "--allow-changed", allowed)
    assert done.returncode == 0, done.stderr
    assert "warning: the run goes on with other settings: " in done.stderr


@pytest.mark.parametrize(
    "words", ["-1 40", "--pattern random", "--init-scale inverse-sqrt-density"]
)
def test_another_model_is_never_continued(words: str, killed: Lab) -> None:
    done = killed.train(*WORDS, "--resume", *words.split())
    assert done.returncode == 2
    assert "a run cannot be continued with another " in refusal(done)


def test_one_token_changed_in_the_middle_of_the_data_is_refused(run: Lab) -> None:
    """Far from the ends of the file, and in no batch that was read."""
    run.tokens("big.bin", np.arange(200_000) % 260)
    words = "-n 4 -k 1 -b 2 -t 8 -g 0 -i big.bin -c ckpt.bin"
    run.trained(words)
    data = bytearray((run.folder / "big.bin").read_bytes())
    data[1024 + 2 * 100_000] ^= 1
    (run.folder / "big.bin").write_bytes(data)
    done = run.train(words, "--resume")
    assert done.returncode == 2
    assert "train_fingerprint was " in refusal(done)


def test_data_changed_in_place_is_refused(killed: Lab) -> None:
    path = killed.folder / "part_1.bin"
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    done = killed.train(*WORDS, "--resume")
    assert done.returncode == 2
    assert "train_fingerprint was " in refusal(done)
    assert killed.train(*WORDS, "--resume", "--allow-changed", "data").returncode == 0


def test_other_kernels_are_refused(killed: Lab) -> None:
    done = killed.train(*WORDS, "--resume", env=os.environ | {"PYLLMC_ISA": "plain"})
    if done.returncode == 0:
        pytest.skip("this machine has the plain kernels only")
    assert done.returncode == 2
    assert "instruction_set was " in refusal(done)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--allow-changed data", "--allow-changed needs --resume"),
        (
            "--resume --allow-changed colour",
            "--allow-changed colour names nothing that may differ; these",
        ),
        ("--resume -c model.bin/x.bin", "cannot make the folder of model.bin/x.bin: Not a direc"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: str, sentence: str, run: Lab) -> None:
    done = run.train(*WORDS, *words.split())
    assert done.returncode in (1, 2, 4)
    assert sentence in refusal(done)


def test_resume_needs_a_checkpoint(run: Lab) -> None:
    done = run.train("--resume")
    assert (done.returncode, refusal(done)) == (
        2, "--resume needs --checkpoint FILE, beside which the states lie")  # fmt: skip


def test_a_log_that_lost_lines_is_not_continued(killed: Lab) -> None:
    log = killed.folder / "log.txt"
    log.write_text("s:0 tel:5.5\n")
    done = killed.train(*WORDS, "--resume")
    assert done.returncode == 4
    assert "its lines are lost" in refusal(done)
    assert killed.train(*WORDS, "--resume", "--allow-changed", "log").returncode == 0
    assert log.read_text().startswith("s:4 trl:")


def test_a_new_run_sets_the_states_of_an_earlier_one_aside(killed: Lab) -> None:
    out = killed.trained(*WORDS)
    assert f"states of an earlier run of ckpt.bin are now in {ROOT}.previous\n" in out
    assert states(killed) == ["step_00000008", "step_00000009"]
    assert len(list((killed.folder / f"{ROOT}.previous").glob("step_*"))) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(
    number: int, code: int, run: Lab, unbroken: dict[str, Any]
) -> None:
    """Stopped by a signal again and again, wherever it hits."""
    stopped = 0
    for _ in range(4):
        command = run.train_command(*WORDS, "--resume")
        with subprocess.Popen(
            command, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout
            for line in child.stdout:
                if line.startswith(("step ", "val loss")):
                    child.send_signal(number)
                    break
            child.communicate(timeout=30)
        assert child.returncode in (0, code)
        stopped += child.returncode == code
    assert stopped
    finish(run)
    assert_same(run, unbroken)


def limited(bytes_: int) -> dict[str, Any]:
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))}


@pytest.mark.parametrize(
    ("limit", "what"), [(20_000, "ckpt.bin"), (100_000, "tensors.bin")], ids=["checkpoint", "state"]
)
def test_a_full_disk_leaves_the_states_before(
    limit: int, what: str, killed: Lab, unbroken: dict[str, Any]
) -> None:
    done = killed.train(*WORDS, "--resume", **limited(limit))
    assert done.returncode == 1
    assert what in refusal(done)
    assert "File too large; raise the file size limit" in refusal(done)
    assert states(killed) == ["step_00000002", "step_00000004"]
    assert not list((killed.folder / ROOT).glob(".*"))
    for name in states(killed):
        read_state(killed.folder / ROOT / name)
    finish(killed)
    assert_same(killed, unbroken)


def test_a_folder_that_cannot_be_is_found_before_training(run: Lab) -> None:
    (run.folder / ROOT).write_text("in the way")
    done = run.train(*WORDS)
    assert done.returncode in (1, 4)
    assert ROOT in refusal(done)
    assert not (run.folder / "log.txt").exists()


@pytest.mark.parametrize("harm", ["vanished", "replaced"])
def test_data_harmed_under_the_run(harm: str, run: Lab) -> None:
    path = run.folder / "part_0.bin"
    data = path.read_bytes()
    words = [*WORDS, "-n", 1_000_000, "-k", 50, "-v", 0, "-s", 0]
    command = run.train_command(*words)
    with subprocess.Popen(
        command, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        for line in child.stdout:
            if line.startswith("step  120/"):
                break
        if harm == "vanished":
            path.unlink()
        else:
            path.with_name("new").write_bytes(data)
            path.with_name("new").replace(path)
        _, error = child.communicate(timeout=30)
    assert child.returncode == 4
    assert "part_0.bin" in error
    assert len(error.splitlines()) == 1
    kept = states(run)
    assert len(kept) == 2
    for name in kept:
        read_state(run.folder / ROOT / name)
    path.write_bytes(data)
    last = int(kept[-1].removeprefix("step_"))
    words[words.index(1_000_000)] = last + 3
    assert run.train(*words, "--resume", "--allow-changed", "steps").returncode == 0


def test_a_divergence_names_the_last_good_state(run: Lab) -> None:
    done = run.train(*WORDS, "-l", "1e8", "--min-lr", "1e8", "--warmup", 0, "-n", 400, "-v", 0,
                     "-s", 0, "--grad-clip", 0)  # fmt: skip
    assert done.returncode == 3
    kept = states(run)
    expected = f"; the last good state is {ROOT}/{kept[-1]}" if kept else "gradient clipping"
    assert refusal(done).endswith(expected)
    assert run.events("end")[-1]["status"] == "diverged"


def values(trainer: Trainer) -> dict[str, Any]:
    return trainer.optimizer_state() | {"p": {p.name: p.dense() for p in trainer.parameters()}}


def make_trainer(run: Lab, threads: int = 1, **other: Any) -> Trainer:
    return Trainer(
        str(run.folder / "model.bin"), str(run.folder / "part_*.bin"),
        **({"batch_size": 2, "sequence_length": 8, "fc1_bandwidth": 24, "accumulate": 2,
            "warmup": 2, "steps": 9, "min_lr": 1e-4, "grad_clip": 0.5, "threads": threads} | other),
    )  # fmt: skip


def test_a_trainer_in_python_goes_on_to_the_same_bits(run: Lab) -> None:
    root = str(run.folder / "mine")
    whole = make_trainer(run)
    reports = [whole.step() for _ in range(9)]
    first = make_trainer(run)
    assert [first.step() for _ in range(5)] == reports[:5]
    assert first.save_state(root) == f"{root}/step_00000005"
    second = make_trainer(run, threads=2)
    assert second.resume(root) == 5
    assert [second.step() for _ in range(4)] == reports[5:]
    expected, found = values(whole), values(second)
    for slot, arrays in expected.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, found[slot][name], err_msg=f"{slot} {name}")


def test_a_trainer_in_python_refuses_other_settings(run: Lab) -> None:
    root = str(run.folder / "mine")
    with pytest.raises(FormatError, match="no training state"):
        make_trainer(run).resume(root)
    make_trainer(run).save_state(root)
    with pytest.raises(UsageError, match="batch_size was 2 and is 1"):
        make_trainer(run, batch_size=1).resume(root)
    assert make_trainer(run, batch_size=1).resume(root, "batch_size") == 0


def test_a_trainer_in_python_keeps_two_states(run: Lab) -> None:
    trainer = make_trainer(run)
    for _ in range(4):
        trainer.step()
        trainer.save_state(str(run.folder / "mine"))
    names = sorted(path.name for path in (run.folder / "mine").iterdir())
    assert names == ["step_00000003", "step_00000004"]
