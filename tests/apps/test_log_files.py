"""Both log files: numbering and order of the original's lines, and everything at full precision."""

from __future__ import annotations

import json
import math
import re
import subprocess

import numpy as np
import pytest
from apps.lab import DENSE_AT, EOT, MAX_T, PARAMETERS, TRAIN_DATA, VAL_DATA, VAL_TOKENS, Lab
from oracle import band

import pyllmc


def keys(lines: list[str]) -> list[str]:
    """`s:<step> tel` of every line, whose loss has four decimals."""
    assert all(re.fullmatch(r"s:\d+ t[ers]l:\d+\.\d{4}", line) for line in lines), lines
    return [line.split(":")[0] + ":" + line.split(":")[1] for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-n 4 -v 2", "0e 0r 1r 2e 2r 3r 4e"),
        ("-n 5 -v 2", "0e 0r 1r 2e 2r 3r 4e 4r 5e"),
        ("-n 3 -v 1", "0e 0r 1e 1r 2e 2r 3e"),
        ("-n 3 -v 9", "0e 0r 1r 2r 3e"),
        ("-n 3 -v 0", "0e 0r 1r 2r 3e"),
        ("-n 0 -v 0", "0e"),
        (f"-n 2 -v 1 --test-data {VAL_DATA}", "0e 0r 1e 1r 2e 2s"),
    ],
)
def test_lines_come_in_the_originals_order(words: str, expected: str, lab: Lab) -> None:
    lab.trained(words, "-g", 0, "-o", "log.txt")
    assert keys(lab.log()) == [f"s:{item[0]} t{item[1]}l" for item in expected.split()]


def test_jsonl_holds_everything_at_full_precision(lab: Lab) -> None:
    words = (
        "-n 3 -v 2 -s 2 -g 4 -1 24 -2 126 --mask-init 0 -l 0.01 --warmup 2 --min-lr 0.001"
        " --weight-decay 0.1 --grad-clip 0.5 --accumulate 2 -c ckpt.bin -o log.txt"
    )
    lab.trained(words, "--test-data", VAL_DATA)
    settings = lab.events("settings")[0]
    of_machine = ("device", "kernels", "gpu", "memory_bytes")
    machine = {key: settings.pop(key) for key in of_machine}
    assert machine["device"] == "cpu"
    assert machine["memory_bytes"] > 3 * 4 * settings["parameters"]
    prints = [settings.pop("train_fingerprint"), settings.pop("val_fingerprint")]
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in prints)
    assert prints[0] != prints[1]
    assert settings == {
        "type": "settings", "version": pyllmc.__version__, "model": "model.bin",
        "train_data": TRAIN_DATA, "val_data": VAL_DATA, "steps": 3, "batch_size": 4,
        "sequence_length": 16, "accumulate": 2, "train_eval_batches": 0,
        "learning_rate": 0.01, "warmup": 2, "min_lr": 0.001,
        "weight_decay": 0.1, "grad_clip": 0.5, "fc1_bandwidth": 24,
        "fc2_bandwidth": DENSE_AT, "pattern": "band", "mask_seed": 1337, "init_scale": "none",
        "execution": "band", "precision": "fp32", "hidden": 64, "mlp_rank": 0,
        "mask_init": False, "init_seed": 1337, "data_seed": 42,
        "threads": 1, "channels": 16, "layers": 2, "heads": 2, "max_sequence_length": 16,
        "vocab_size": 260, "padded_vocab_size": 384, "parameters": PARAMETERS,
        "fc1_kept": int(band.fc1_mask(64, 16, 24).sum()), "fc1_total": 1024,
        "fc2_kept": 1024, "fc2_total": 1024, "train_tokens": 2001, "val_tokens": VAL_TOKENS,
        "val_tokens_evaluated": 384,
    }  # fmt: skip

    order = [event["type"] for event in lab.events()]
    assert order == ["settings", "val", "train", "train", "val", "sample", "train", "val",
                     "sample", "checkpoint", "test", "end"]  # fmt: skip
    train = lab.events("train")
    assert {frozenset(event) for event in train} == {
        frozenset({"type", "step", "loss", "lr", "grad_norm", "ms", "tokens_per_second"})
    }
    assert [event["step"] for event in train] == [0, 1, 2]
    # Warm-up over two updates, then the cosine's start.
    np.testing.assert_allclose([event["lr"] for event in train], [0.005, 0.01, 0.01], rtol=1e-6)
    assert all(event["grad_norm"] > 0 for event in train)
    assert all(
        event["tokens_per_second"] == pytest.approx(2 * 64 / event["ms"] * 1e3) for event in train
    )
    assert [(event["step"], event["tokens"]) for event in lab.events("val")] == [
        (0, 384), (2, 384), (3, 384)]  # fmt: skip
    assert [event["step"] for event in lab.events("sample")] == [2, 3]
    assert lab.events("checkpoint") == [{"type": "checkpoint", "step": 3, "path": "ckpt.bin"}]
    assert lab.events("test") == [
        {"type": "test", "step": 3, "loss": lab.events("val")[-1]["loss"], "tokens": 384}
    ]
    assert lab.events("end") == [{"type": "end", "step": 3, "status": "done"}]


def test_both_files_hold_the_same_losses(lab: Lab) -> None:
    lab.trained("-n", 3, "-v", 1, "-g", 0, "-o", "log.txt", "--test-data", VAL_DATA)
    short = {"val": "tel", "train": "trl", "test": "tsl"}
    losses = [event for event in lab.events() if event["type"] in short]
    assert [
        f"s:{event['step']} {short[event['type']]}:{event['loss']:.4f}" for event in losses
    ] == lab.log()
    # A model that has learned nothing: the entropy of a uniform guess.
    assert losses[0]["loss"] == pytest.approx(math.log(EOT + 1), abs=0.2)


def test_the_test_loss_covers_the_whole_file(lab: Lab) -> None:
    lab.trained("-n", 0, "-m", 1, "-g", 0, "--test-data", VAL_DATA, "-o", "log.txt")
    assert (lab.events("val")[0]["tokens"], lab.events("test")[0]["tokens"]) == (64, 384)


@pytest.mark.parametrize(
    ("words", "steps"),
    [("-s 2", [2, 4, 5]), ("-s 0", [5]), ("-s 9", [5]), ("-s 1 -g 1", []), ("-s 1 -g 0", [])],
)
def test_samples_are_drawn_every_s_updates_and_at_the_end(
    words: str, steps: list[int], lab: Lab
) -> None:
    out = lab.trained("-n", 5, "-g", 6, words, "-o", "log.txt")
    samples = lab.events("sample")
    assert [event["step"] for event in samples] == steps
    # Without a tokenizer ids are written, one fewer than -g asks for.
    assert all(re.fullmatch(r"\d+( \d+){4}", event["text"]) for event in samples)
    assert out.count("generating:\n---\n") == len(steps)
    for event in samples:
        assert f"generating:\n---\n{event['text']}\n---\n" in out


def test_samples_are_decoded_by_the_tokenizer_beside_the_data(lab: Lab) -> None:
    lab.tokenizer("data/tinystories/TinyStories_tokenizer.bin")
    out = lab.trained("-n", 0, "-g", 30, "-o", "log.txt")
    assert "| data/tinystories/TinyStories_tokenizer.bin" in out
    text = lab.events("sample")[0]["text"]
    assert len(text) == MAX_T  # as many as the model has room for, of a byte each
    # What would steer a terminal is in the file alone.
    shown = out.partition("---\n")[2].partition("\n---")[0]
    assert "\x1b" in text
    assert "\x1b" not in shown
    without = [re.sub("[\x00-\x08\x0b-\x1f\x7f\ufffd]+", "?", each) for each in (text, shown)]
    assert without[0] == without[1]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("data/tinystories/gpt2_tokenizer.bin", ""),
        ("data/tinystories/words_tokenizer.bin", ""),
        ("gpt2_tokenizer.bin", ""),
        ("elsewhere/words.bin", "--tokenizer elsewhere/words.bin"),
    ],
)
def test_where_a_tokenizer_is_looked_for(where: str, words: str, lab: Lab) -> None:
    lab.tokenizer(where)
    assert f"| tokenizer             | {where} " in lab.trained("-n", 0, words)


def test_the_tokenizer_of_the_training_data_comes_first(lab: Lab) -> None:
    """Then others beside it, then the working directory's; what cannot be used is passed over."""
    folder = "data/tinystories"
    (lab.folder / folder / "0_tokenizer.bin").write_bytes(b"cut short")
    lab.tokenizer(f"{folder}/1_tokenizer.bin", [b"a", b"b", b"<|endoftext|>"])
    places = [
        "./0_tokenizer.bin",
        f"{folder}/A_tokenizer.bin",
        f"{folder}/TinyStories_tokenizer.bin",
    ]
    for place in places:
        lab.tokenizer(place)
        shown = place.removeprefix("./")
        assert f"| tokenizer             | {shown} " in lab.trained("-n", 0)


def test_a_tokenizer_of_another_model_found_by_chance_is_left_alone(lab: Lab) -> None:
    lab.tokenizer("gpt2_tokenizer.bin", [b"a", b"b", b"<|endoftext|>"])
    out = lab.trained("-n", 0, "-g", 4)
    assert "| tokenizer             | none " in out
    assert re.search(r"---\n\d+ \d+ \d+\n---", out)


def test_a_log_without_txt_gets_its_jsonl_beside_it(lab: Lab) -> None:
    lab.trained("-n", 0, "-g", 0, "-o", "run.1")
    assert len((lab.folder / "run.1").read_text().splitlines()) == 1
    assert json.loads((lab.folder / "run.1.jsonl").read_text().splitlines()[-1])["type"] == "end"


def test_a_log_is_begun_anew(lab: Lab) -> None:
    lab.trained("-n", 3, "-g", 0, "-o", "log.txt")
    lab.trained("-n", 0, "-g", 0, "-o", "log.txt")
    assert len(lab.log()) == 1
    assert len(lab.events("val")) == 1


def test_lines_are_there_as_soon_as_they_are_due(lab: Lab) -> None:
    """Whoever watches a run reads its files."""
    words = ("-n", 100000, "-v", 0, "-g", 0, "-o", "log.txt")
    with subprocess.Popen(
        lab.train_command(*words), cwd=lab.folder, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout
            for line in child.stdout:
                if line.startswith("step    6/"):  # five are done, this one is under way
                    break
            assert len(lab.log()) >= 6
            assert len(lab.events("train")) >= 5
        finally:
            child.kill()
