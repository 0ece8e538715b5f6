"""generate_banded continues prompts, draws as it is told and finds its tokenizer."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from apps.lab import EOT, MAX_T, PARAMETERS, TRAIN_DATA, VAL_DATA, WORDS, C, Lab, make_lab, refusal
from oracle.band import fc1_mask, fc2_mask

from pyllmc import _core

SENTENCES = ["the hen ran. ", "the cat sat. ", "she hid. ", "he ate the pie. ", "a dog! "]
FC1, FC2 = 24, 40


@pytest.fixture(scope="module")
def speaker_folder(tmp_path_factory: pytest.TempPathFactory, programs: SimpleNamespace) -> Path:
    """A lab with ckpt.bin, banded and trained on a few sentences in any order."""
    lab = make_lab(tmp_path_factory.mktemp("speaker"), programs)
    lab.tokenizer("words_tokenizer.bin")
    tokenizer = _core.Tokenizer(str(lab.folder / "words_tokenizer.bin"))
    rng = np.random.default_rng(0)
    for path, count in ((TRAIN_DATA, 2000), (VAL_DATA, 200)):
        ids = []
        for choice in rng.integers(0, len(SENTENCES), count):
            ids += [EOT] if rng.integers(0, 4) == 0 else []
            ids += tokenizer.encode(SENTENCES[choice])
        lab.tokens(path, ids)
    lab.trained("-1", FC1, "-2", FC2, "-n 300 -l 0.01 -b 8 -v 0 -g 0 -c ckpt.bin")
    return lab.folder


@pytest.fixture
def speaker(speaker_folder: Path, tmp_path: Path, programs: SimpleNamespace) -> Lab:
    for name in ("ckpt.bin", "words_tokenizer.bin"):
        shutil.copy(speaker_folder / name, tmp_path / name)
    return Lab(tmp_path, programs)


def said(lab: Lab, *words: object) -> str:
    """The text, without the line end that closes it."""
    done = lab.generate("-e", "ckpt.bin", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n")
    return done.stdout.removesuffix("\n")


def greedy(lab: Lab, prompt: str, count: int) -> str:
    """prompt and its likeliest continuation, from the model's logits alone."""
    model = _core.Model(str(lab.folder / "ckpt.bin"))
    tokenizer = _core.Tokenizer(str(lab.folder / "words_tokenizer.bin"))
    ids = [EOT, *tokenizer.encode(prompt)]
    start = len(ids)
    for _ in range(count):
        ids.append(int(np.argmax(model.logits(np.array(ids, np.int32))[-1])))
    return prompt + b"".join(WORDS[token] for token in ids[start:]).decode()


@pytest.mark.parametrize("prompt", ["", "the hen", "she", "he ate the p"])
def test_temperature_0_takes_the_likeliest_token_always(prompt: str, speaker: Lab) -> None:
    expected = greedy(speaker, prompt, 4)
    for seed in (1, 2):
        given = ("-p", prompt, "-n", 4, "-s", seed)
        assert said(speaker, *given, "--temperature", 0) == expected
        assert said(speaker, *given, "--top-k", 1) == expected


def test_the_prompt_is_honoured_and_echoed(speaker: Lab) -> None:
    assert said(speaker, "-p", "the hen r", "-n", 4, "--temperature", 0.1, "-s", 1) == (
        "the hen ran. "
    )
    assert said(speaker, "-p", "the cat s", "-n", 4, "--temperature", 0.1, "-s", 1) == (
        "the cat sat. "
    )


def test_a_prompt_may_hold_any_character(speaker: Lab) -> None:
    assert said(speaker, "-p", "é€😀", "-n", 2, "-s", 1).startswith("é€😀")


def test_a_seed_repeats_its_text_and_others_differ(speaker: Lab) -> None:
    texts = [said(speaker, "-s", seed, "--temperature", 1.5) for seed in (1, 1, 2, 3, 4)]
    assert texts[0] == texts[1]
    assert len(set(texts)) >= 3
    assert said(speaker, "-s", 1, "--temperature", 1.5, "--threads", 2) == texts[0]


@pytest.mark.parametrize("none", [[], ["-s", 0]])
def test_without_a_seed_it_says_which_it_took(none: list[object], speaker: Lab) -> None:
    done = speaker.generate("-e", "ckpt.bin", "--temperature", 3, *none)
    seed = re.search(r"seed (\d+)\n", done.stderr)
    assert seed
    assert said(speaker, "--temperature", 3, "-s", seed[1]) + "\n" == done.stdout
    again = speaker.generate("-e", "ckpt.bin", "--temperature", 3, *none)
    assert seed[0] not in again.stderr


def test_top_k_leaves_the_unlikely_out(speaker: Lab) -> None:
    """At this temperature every token is as likely as the next; k keeps three of them."""
    model = _core.Model(str(speaker.folder / "ckpt.bin"))
    first = model.logits(np.array([EOT], np.int32))[-1]
    likely = {WORDS[token].decode() for token in np.argsort(-first)[:3]}
    seen = {said(speaker, "-n", 1, "--temperature", 1e4, "--top-k", 3, "-s", seed)
            for seed in range(1, 30)}  # fmt: skip
    assert seen == likely


def test_text_goes_to_stdout_and_everything_else_to_stderr(speaker: Lab) -> None:
    done = speaker.generate("-e", "ckpt.bin", "-p", "the cat", "-n", 3, "-s", 7)
    kept = [100 * mask.mean() for mask in (fc1_mask(4 * C, C, FC1), fc2_mask(C, 4 * C, FC2))]
    *lines, speed = done.stderr.splitlines()
    assert lines == [
        f"model ckpt.bin: {PARAMETERS} parameters, C = 16, L = 2, maxT = 16, step 300",
        f"density recorded: FC1 {kept[0]:.1f}% (band of 24), FC2 {kept[1]:.1f}% (band of 40)",
        "tokenizer ./words_tokenizer.bin, seed 7",
    ]
    assert re.fullmatch(r"3 tokens in \d+\.\d\d s, \d+ tokens/s", speed)
    assert done.stdout.startswith("the cat")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(("prompt", "room"), [("", MAX_T), ("she hid. she h", 4), ("x" * 15, 1)])
def test_more_tokens_than_the_model_has_room_for(prompt: str, room: int, speaker: Lab) -> None:
    done = speaker.generate("-e", "ckpt.bin", "-p", prompt, "-n", 1000, "-s", 1)
    assert done.returncode == 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{room} tokens in ")
    assert last.endswith(" (the model has room for no more)")


def test_a_plain_llm_c_file_has_no_density_on_record(speaker: Lab) -> None:
    data = bytearray((speaker.folder / "ckpt.bin").read_bytes())
    data[32:1024] = bytes(992)  # all that llm.c's own files do not use
    (speaker.folder / "plain.bin").write_bytes(data)
    done = speaker.generate("-e", "plain.bin", "-s", 7)
    assert done.returncode == 0
    assert done.stdout == said(speaker, "-s", 7) + "\n"
    assert "density recorded: none (a plain llm.c file)" in done.stderr


@pytest.mark.parametrize(
    ("places", "taken"),
    [
        (["deep/z_tokenizer.bin", "./a_tokenizer.bin", "data/x/a_tokenizer.bin"], 0),
        (["./b_tokenizer.bin", "data/x/a_tokenizer.bin"], 0),
        (["./b_tokenizer.bin", "./a_tokenizer.bin"], 1),
        (["data/y/a_tokenizer.bin", "data/x/b_tokenizer.bin"], 1),
        (["deep/gpt2_tokenizer.bin"], 0),
    ],
)
def test_where_the_tokenizer_is_looked_for(places: list[str], taken: int, speaker: Lab) -> None:
    (speaker.folder / "words_tokenizer.bin").unlink()
    (speaker.folder / "deep").mkdir()
    (speaker.folder / "ckpt.bin").rename(speaker.folder / "deep/ckpt.bin")
    for place in places:
        speaker.tokenizer(place)
    # Of another size, and damaged: none that fits.
    speaker.tokenizer("deep/0_tokenizer.bin", WORDS[1:])
    (speaker.folder / "deep/1_tokenizer.bin").write_bytes(b"cut short")
    done = speaker.generate("-e", "deep/ckpt.bin", "-s", 1)
    assert done.returncode == 0, done.stderr
    assert f"tokenizer {places[taken]}, seed 1" in done.stderr


def test_without_a_tokenizer_it_says_where_it_looked(speaker: Lab) -> None:
    (speaker.folder / "words_tokenizer.bin").unlink()
    done = speaker.generate("-e", "ckpt.bin")
    assert (done.returncode, done.stdout) == (4, "")
    assert refusal(done, "generate_banded") == (
        "no tokenizer of 260 tokens was found beside ckpt.bin, in . or in data/*; name one with "
        "--tokenizer FILE ('pyllmc data prepare' writes it)"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "there is no checkpoint checkpoint_banded.bin; name one with --checkpoint"),
        ("-e words_tokenizer.bin", "words_tokenizer.bin "),
        ("-e ckpt.bin --tokenizer none.bin", "cannot open none.bin: No such file or directory"),
        ("-e ckpt.bin --tokenizer short.bin", "short.bin holds 259 tokens, the model's vocabulary"),
        ("-e ckpt.bin --tokenizer ckpt.bin", "ckpt.bin "),
    ],
)
def test_bad_files_are_named(words: str, sentence: str, speaker: Lab) -> None:
    speaker.tokenizer("short.bin", WORDS[1:])
    done = speaker.generate(*words.split())
    assert (done.returncode, done.stdout) == (4, "")
    assert refusal(done, "generate_banded").startswith(sentence)


def test_broken_weights_write_no_text(lab: Lab) -> None:
    lab.tokenizer("a_tokenizer.bin")
    lab.broken_model("broken.bin")
    done = lab.generate("-e", "broken.bin", "-s", 1)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1] == (
        "generate_banded: the model's logits at position 0 are not finite: its weights are broken, "
        "use another one"
    )


def test_text_that_cannot_be_written_is_an_error(speaker: Lab) -> None:
    command = [str(speaker.programs.generate_banded), "-e", "ckpt.bin", "-s", "1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=speaker.folder, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "the text could not be written to stdout" in done.stderr


def test_what_an_untrained_model_says_steers_no_terminal(lab: Lab) -> None:
    lab.tokenizer("a_tokenizer.bin")
    text = "".join(lab.generate("-e", "model.bin", "-s", seed).stdout for seed in range(1, 15))
    assert "\ufffd" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
