"""Files missing, damaged or of another kind: exit 4 before training. Unwritable ones: exit 1."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest
from apps.lab import TRAIN_DATA, WORDS, Lab, refusal


def cut_model(lab: Lab) -> None:
    data = (lab.folder / "model.bin").read_bytes()
    (lab.folder / "model.bin").write_bytes(data[:-1])


def grown_model(lab: Lab) -> None:
    with (lab.folder / "model.bin").open("ab") as file:
        file.write(b"\0")


def cut_data(lab: Lab) -> None:
    data = (lab.folder / TRAIN_DATA).read_bytes()
    (lab.folder / TRAIN_DATA).write_bytes(data[:-1])


def foreign_token(lab: Lab) -> None:
    """The last token of an epoch, which no update of the run would come to."""
    lab.tokens("bad.bin", [1] * 2000 + [260])


def few_tokens(lab: Lab) -> None:
    lab.tokens("few.bin", [1] * 64)


def other_tokenizer(lab: Lab) -> None:
    lab.tokenizer("words.bin", WORDS[1:])


def nothing(lab: Lab) -> None:
    pass


FOREIGN = "bad.bin has token id 260 at position 2000, expected ids below 260; the data was made for"
FEW = "few.bin holds 64 tokens, a batch of B = 4 and T = 16 needs 65 in one file; use more data or"
BAD_FILES: dict[str, tuple[Callable[[Lab], None], str, str]] = {
    "no model": (nothing, "-e none.bin", "there is no model none.bin; name one with --model or"),
    "folder": (nothing, "-e data", "data is a folder, expected a file"),
    "cut model": (cut_model, "", "model.bin has 52991 bytes, its header (maxT 16, V 260, L 2, "),
    "grown model": (grown_model, "", "model.bin has 52993 bytes, its header (maxT 16, V 260, "),
    "data as model": (nothing, f"-e {TRAIN_DATA}", f"{TRAIN_DATA} "),
    "model as data": (nothing, "-i model.bin", "model.bin "),
    "no data": (nothing, "-i none_*.bin", "no token file matches 'none_*.bin', expected at least"),
    "no val data": (nothing, "-j none.bin", "no token file matches 'none.bin', expected at least"),
    "no test data": (nothing, "--test-data none.bin", "no token file matches 'none.bin', expected"),
    "cut data": (cut_data, "", f"{TRAIN_DATA} has 5025 bytes, its count of 2001 tokens asks for"),
    "train ids": (foreign_token, "-i bad.bin", FOREIGN),
    "val ids": (foreign_token, "-j bad.bin -m 1", FOREIGN),
    "test ids": (foreign_token, "--test-data bad.bin", FOREIGN),
    "few tokens": (few_tokens, "-i few.bin", FEW),
    "few val tokens": (few_tokens, "-j few.bin", FEW),
    "few test tokens": (few_tokens, "--test-data few.bin", FEW),
    "no tokenizer": (nothing, "--tokenizer none.bin", "cannot open none.bin: No such file"),
    "other tokenizer": (
        other_tokenizer,
        "--tokenizer words.bin",
        "words.bin holds 259 tokens, the model's vocabulary has 260; give the tokenizer of the",
    ),
    "no tokenizer file": (nothing, "--tokenizer model.bin", "model.bin "),
}


@pytest.mark.parametrize(("prepare", "words", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_named_before_training(
    prepare: Callable[[Lab], None], words: str, sentence: str, lab: Lab
) -> None:
    prepare(lab)
    (lab.folder / "log.txt").write_text("of an earlier run\n")
    before = sorted(lab.folder.rglob("*"))
    done = lab.train("-n", 1, "-o", "log.txt", "-c", "ckpt.bin", words)
    assert refusal(done).startswith(sentence)
    assert (done.returncode, done.stdout) == (4, "")
    assert lab.log() == ["of an earlier run"]
    assert sorted(lab.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-o model.bin/log.txt", "cannot make the folder model.bin: Not a directory"),
        ("-o data", "cannot open the log data: Is a directory"),
        ("-c model.bin/ckpt.bin", "cannot make the folder of model.bin/ckpt.bin: Not a directory"),
        ("-c data", "cannot write data: it is not a plain file, expected a file that may be"),
    ],
)
def test_impossible_outputs_are_found_before_training(words: str, sentence: str, lab: Lab) -> None:
    done = lab.train("-n", 100_000, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert refusal(done).startswith(sentence)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(lab: Lab) -> None:
    lab.trained("-n", 1, "-g", 0, "-c", "ckpt.bin")
    before = (lab.folder / "ckpt.bin").read_bytes()
    files = sorted(lab.folder.iterdir())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    options: dict[str, Any] = {"preexec_fn": limit}
    done = lab.train("-n", 2, "-g", 0, "-c", "ckpt.bin", **options)
    assert done.returncode == 1
    assert refusal(done) == (
        "cannot write ckpt.bin: File too large; raise the file size limit (ulimit -f)"
    )
    assert (lab.folder / "ckpt.bin").read_bytes() == before
    assert sorted(lab.folder.iterdir()) == sorted([*files, lab.folder / "ckpt.state.previous"])


def test_a_log_that_cannot_be_written_ends_the_run(lab: Lab) -> None:
    options: dict[str, Any] = {
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    }
    done = lab.train("-n", 1000, "-g", 0, "-o", "log.txt", **options)
    assert done.returncode == 1
    assert refusal(done) == "cannot write to the log log.jsonl: File too large"
