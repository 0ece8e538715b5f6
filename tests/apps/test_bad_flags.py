"""What cannot work is refused with one sentence and exit 2, before any file is touched."""

from __future__ import annotations

import pytest
from apps.lab import Lab, refusal

BAD_FLAGS = {
    "mistyped": ("--stepz 3", "unknown flag '--stepz': did you mean --steps?"),
    "word left out": ("--bandwith 3", "unknown flag '--bandwith': did you mean --fc1-bandwidth?"),
    "one dash": ("-steps 3", "unknown flag '-steps': did you mean --steps?"),
    "value grown on": ("-n10", "unknown flag '-n10': did you mean -n 10?"),
    "nothing like it": ("--momentum 3", "unknown flag '--momentum': see train_banded --help"),
    "unknown letter": ("-z 3", "unknown flag '-z': see train_banded --help"),
    "no flag": ("model.bin", "unexpected word 'model.bin': see train_banded --help"),
    "no value": ("-n", "-n needs a value after it"),
    "flag for a value": ("-c -k 5", "-c needs a value after it, got the flag '-k'; write"),
    "no number": ("-n many", "-n needs a whole number, got 'many'"),
    "no whole number": ("--batch-size=1.5", "--batch-size needs a whole number, got '1.5'"),
    "empty": ("--steps=", "--steps needs a whole number, got ''"),
    "too large to read": ("-n 99999999999999999999", "-n needs a whole number, got '9999999"),
    "too large": ("-n 3000000000", "--steps is 3000000000, it must be at most 2147483647"),
    "no real number": ("-l fast", "-l needs a number, got 'fast'"),
    "nan": ("--grad-clip nan", "--grad-clip needs a number, got 'nan'"),
    "negative rate": ("-l -1", "--learning-rate is -1, it must be 0 or more"),
    "negative decay": ("--weight-decay -1", "--weight-decay is -1, it must be 0 or more"),
    "min-lr": ("--min-lr 1e-2", "--min-lr is 0.01, it must lie between 0 and the learning rate"),
    "batch 0": ("-b 0", "--batch-size is 0, it must be 1 or more"),
    "length 0": ("-t 0", "--sequence-length is 0, it must be 1 or more"),
    "accumulate 0": ("--accumulate 0", "--accumulate is 0, it must be 1 or more"),
    "val-every": ("-v -1", "--val-every is -1, it must be 0 or more"),
    "val-batches 0": ("-m 0", "--val-batches is 0, it must be 1 or more"),
    "fc1 bandwidth": ("-1 -4", "--fc1-bandwidth is -4, it must be 0 or more"),
    "fc2 bandwidth": ("-2 -4", "--fc2-bandwidth is -4, it must be 0 or more"),
    "mask-init": ("--mask-init 2", "--mask-init is 2, it must be 0 or 1"),
    "dense": ("-d 2", "--dense is 2, it must be 0 or 1"),
    "threads": ("--threads 5000", "--threads is 5000, it must be 0 to 4096"),
    "seed": ("--data-seed 4294967296", "--data-seed is 4294967296, it must be 0 to 4294967295"),
    "both seeds": ("--seed -3", "--seed is -3, it must be 0 to 4294967295"),
    "no checkpoint": ("-k 5", "--checkpoint-every needs --checkpoint FILE to write to"),
    "T > maxT": ("-t 17", "sequence length T = 17 exceeds the model's maxT = 16; give"),
    "epoch too small": ("--accumulate 32", "has 31 batches, an update takes --accumulate 32"),
    "tokens of a batch": ("-b 2000000000", "T = 16 has more than 2147483647 tokens: use"),
}


@pytest.mark.parametrize(("words", "sentence"), BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_train_banded_refuses(words: str, sentence: str, lab: Lab) -> None:
    before = sorted(lab.folder.rglob("*"))
    done = lab.train("-o", "log.txt", words)
    assert sentence in refusal(done)
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(lab.folder.rglob("*")) == before


def test_usage_is_checked_before_any_file_is_looked_for(lab: Lab) -> None:
    done = lab.train("-e", "none.bin", "-b", "0")
    assert (done.returncode, refusal(done)) == (2, "--batch-size is 0, it must be 1 or more")


def test_a_run_that_does_not_fit_in_memory_is_told_what_would(lab: Lab) -> None:
    (lab.folder / "log.txt").write_text("of an earlier run\n")
    done = lab.train("-b", "100000000", "-o", "log.txt", "-n", "1")
    assert (done.returncode, done.stdout) == (2, "")
    sentence = refusal(done)
    assert "this run needs " in sentence
    assert " TiB of memory and " in sentence
    batch, accumulate = (int(word) for word in sentence.split() if word.isdigit())
    assert f"it would fit with batch size {batch} and accumulate {accumulate}" in sentence
    assert batch * accumulate == pytest.approx(100_000_000, rel=0.1)
    assert lab.log() == ["of an earlier run"]


GENERATE = {
    "mistyped": ("--temprature 1", "unknown flag '--temprature': did you mean --temperature?"),
    "no number": ("--top-k all", "--top-k needs a whole number, got 'all'"),
    "tokens 0": ("-n 0", "--tokens is 0, it must be 1 to 2147483647"),
    "temperature": ("--temperature -1", "--temperature is -1, it must be 0 or more"),
    "top-k": ("--top-k -1", "--top-k is -1, it must be 0 to 2147483647"),
    "seed": ("-s -1", "--seed is -1, it must be 0 to "),
    "prompt": ("-p 0123456789abcdefg", "the prompt is 17 tokens long, the model has room for 15"),
}


@pytest.mark.parametrize(("words", "sentence"), GENERATE.values(), ids=GENERATE)
def test_generate_banded_refuses(words: str, sentence: str, lab: Lab) -> None:
    lab.tokenizer("a_tokenizer.bin")
    done = lab.generate("-e", "model.bin", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr.splitlines()[-1]
