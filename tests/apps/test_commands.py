"""The commands that the experiments' plans show, as they are written there but for their length."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from apps.lab import TRAIN_BATCHES, VAL_BATCHES, C, L, Lab


def test_the_plans_command_runs_as_written(lab: Lab) -> None:
    words = "-1 512 -2 0 -e model.bin -c ckpt.bin -n 5 -b 16 -t 16 -v 2 -s 4"
    done = lab.run([str(lab.programs.train_banded), *words.split(), "-o", "logs/log_fc1_bw512.txt"])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lab.log("logs/log_fc1_bw512")) == 9
    assert lab.checkpoint()[0].items() >= {
        "max_seq_len": 16, "vocab_size": 260, "num_layers": L, "num_heads": 2, "channels": C,
        "padded_vocab_size": 384, "step": 5, "has_meta": True, "fc1_bandwidth": 512,
        "fc2_bandwidth": 0, "init_seed": 1337, "data_seed": 42,
    }.items()  # fmt: skip


def test_the_first_experiments_command_runs_as_written(lab: Lab) -> None:
    """-w is FC1's bandwidth; the data is where the programs look by themselves."""
    words = "-e model.bin -c checkpoint_banded.bin -w 24 -n 3"
    done = lab.run([str(lab.programs.train_banded), *words.split()])
    assert (done.returncode, done.stderr) == (0, "")
    header, _ = lab.checkpoint("checkpoint_banded.bin")
    assert (header["step"], header["fc1_bandwidth"], header["fc2_bandwidth"]) == (3, 24, 0)
    assert sorted(path.name for path in lab.folder.iterdir()) == [
        ".checkpoint_banded.lock", "checkpoint_banded.bin", "checkpoint_banded.state", "data",
        "model.bin"]  # fmt: skip


def test_without_any_word_it_trains_one_epoch(lab: Lab) -> None:
    out = lab.trained()
    assert f"step   {TRAIN_BATCHES}/{TRAIN_BATCHES}: train loss" in out
    assert f"(step {TRAIN_BATCHES}, " in out


@pytest.mark.parametrize("steps", [-1, -7])
def test_negative_steps_are_one_epoch_of_updates(steps: int, lab: Lab) -> None:
    lab.trained("-n", steps, "--accumulate", 3, "-v", 0, "-g", 0, "-o", "log.txt")
    assert len(lab.events("train")) == TRAIN_BATCHES // 3
    assert lab.events("settings")[0]["steps"] == TRAIN_BATCHES // 3


def test_dense_wins_over_bandwidths(lab: Lab) -> None:
    lab.trained("-1", 24, "-2", 24, "-n", 2, "-g", 0, "-o", "dense.txt", "-d", 1, "-c", "d.bin")
    lab.trained("-n", 2, "-g", 0, "-o", "none.txt", "-c", "n.bin")
    assert lab.log("dense") == lab.log("none")
    assert (lab.folder / "d.bin").read_bytes() == (lab.folder / "n.bin").read_bytes()
    lab.trained("-1", 24, "-n", 2, "-g", 0, "-o", "banded.txt", "-d", 0)
    assert lab.log("banded") != lab.log("none")


def test_no_steps_validates_samples_and_saves(lab: Lab) -> None:
    out = lab.trained("-n", 0, "-o", "log.txt", "-c", "ckpt.bin", "-g", 5)
    assert [event["type"] for event in lab.events()] == [
        "settings", "val", "sample", "checkpoint", "end"]  # fmt: skip
    assert len(lab.log()) == 1
    assert lab.events("end") == [{"type": "end", "step": 0, "status": "done"}]
    assert lab.checkpoint()[0]["step"] == 0
    assert "train loss" not in out


def test_missing_folders_are_made(lab: Lab) -> None:
    lab.trained("-n", 1, "-g", 0, "-o", "a/b/log.txt", "-c", "c/d/ckpt.bin")
    assert len(lab.log("a/b/log")) == 3
    assert lab.checkpoint("c/d/ckpt.bin")[0]["step"] == 1


def test_data_may_be_globs_of_shards(lab: Lab) -> None:
    rng = np.random.default_rng(0)
    for shard in range(3):
        lab.tokens(f"part_{shard}.bin", rng.integers(0, 260, 200))
    lab.trained("-n", 1, "-g", 0, "-i", "part_*.bin", "-j", "part_[01].bin", "-o", "log.txt")
    settings = lab.events("settings")[0]
    assert (settings["train_tokens"], settings["val_tokens"]) == (600, 400)


def test_checkpoints_are_also_written_every_k_updates(lab: Lab) -> None:
    lab.trained("-n", 5, "-k", 2, "-c", "ckpt.bin", "-g", 0, "-o", "log.txt")
    assert [event["step"] for event in lab.events("checkpoint")] == [2, 4, 5]


def test_a_checkpoint_may_be_continued_in_place(lab: Lab) -> None:
    shutil.copy(lab.folder / "model.bin", lab.folder / "ckpt.bin")
    lab.trained("-e", "ckpt.bin", "-c", "ckpt.bin", "-n", 2, "-g", 0, "-o", "first.txt")
    lab.trained("-e", "ckpt.bin", "-c", "ckpt.bin", "-n", 2, "-g", 0, "-o", "second.txt")
    assert lab.log("second")[0].split()[1] == lab.log("first")[-1].split()[1]


def test_validation_uses_the_first_batches_always(lab: Lab) -> None:
    lab.trained("-n", 2, "-v", 1, "-m", 2, "-g", 0, "-o", "two.txt")
    assert [event["tokens"] for event in lab.events("val", "two")] == [128, 128, 128]
    lab.trained("-n", 0, "-m", 99, "-g", 0, "-o", "all.txt")
    assert [event["tokens"] for event in lab.events("val", "all")] == [VAL_BATCHES * 64]
    first = np.fromfile(lab.folder / "data/tinystories/TinyStories_val.bin", "<u2", offset=1024)
    lab.tokens("first.bin", first[:129])
    lab.trained("-n", 0, "-g", 0, "-j", "first.bin", "-o", "first.txt")
    assert lab.events("val", "first")[0]["loss"] == lab.events("val", "two")[0]["loss"]
