"""pyllmc's own model file: what it holds, what is refused, and that both readers agree."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np
import pytest
from apps.lab import WORDS, V
from formats import model_files
from formats.llmc_files import SMALL, checkpoint_file, put
from formats.model_files import description, model_file, padded, prefix, random_tensors, with_text

from pyllmc import _core
from pyllmc.data.tokenizer_file import write_tokenizer_file
from pyllmc.errors import FormatError, UsageError
from pyllmc.models.inspection import inspect_checkpoint

ABOUT = {
    "per-layer": description(SMALL, fc1_bandwidth=[4, 0], fc2_bandwidth=[2, 6], step=7),
    "random": description(SMALL, fc1_bandwidth=[8, 8], pattern="random", mask_seed=2**32 - 1),
    "narrow": description(SMALL, hidden=5),
    "low-rank": description(SMALL, hidden=6, mlp_rank=3),
}


def good(about=ABOUT["low-rank"]):
    return model_file(about, random_tensors(about))


@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT)
def test_what_a_file_says_is_read(tmp_path, about):
    tensors = random_tensors(about)
    path = put(tmp_path / "m.bin", model_file(about, tensors))
    header, found = _core.read_model(path)
    assert header == {**about, "has_meta": True, "llmc": False}
    assert _core.read_model_header(path) == header
    assert list(found) == list(tensors)
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT)
def test_loading_and_saving_gives_the_same_model(tmp_path, about):
    tensors = random_tensors(about)
    path = put(tmp_path / "m.bin", model_file(about, tensors))
    again = tmp_path / "again.bin"
    _core.Model(str(path)).save(str(again), about["step"])
    read, written = model_files.read_model(again.read_bytes())
    assert read == about
    for name, values in tensors.items():
        np.testing.assert_array_equal(written[name], values)


def test_llmc_files_are_read_by_the_same_functions(tmp_path):
    path = put(tmp_path / "m.bin", checkpoint_file(SMALL, fc1_bandwidth=4, fc2_bandwidth=0))
    plain, expected = _core.read_checkpoint(path)
    header, tensors = _core.read_model(path)
    assert header["llmc"]
    assert (header["fc1_bandwidth"], header["fc2_bandwidth"]) == ([4, 4], [0, 0])
    assert (header["hidden"], header["mlp_rank"]) == (4 * SMALL["channels"], 0)
    assert {key: header[key] for key in SMALL} == {key: plain[key] for key in SMALL}
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values)


def test_what_llmcs_layout_can_say_is_written_in_it(tmp_path):
    source = put(tmp_path / "m.bin", checkpoint_file(SMALL, fc1_bandwidth=4))
    model, path = _core.Model(str(source)), str(tmp_path / "again.bin")
    model.save(path)
    assert _core.read_checkpoint_header(path)["fc1_bandwidth"] == 4
    _core.Model(str(source), fc1_bandwidth=0, pattern="random").save(path)
    assert _core.read_checkpoint_header(path)["fc1_bandwidth"] == 0


@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT)
def test_no_llmc_reader_takes_it_for_one_of_its_own(tmp_path, about):
    path = put(tmp_path / "m.bin", good(about))
    with pytest.raises(FormatError, match="magic"):
        _core.read_checkpoint(path)


def text_of(**changes):
    return json.dumps({**ABOUT["low-rank"], **changes})


def without(key):
    return json.dumps({k: v for k, v in ABOUT["low-rank"].items() if k != key})


TENSORS = good()[len(prefix(b"")) + len(padded(text_of())) :]
LENGTH = len(padded(text_of()))
BAD = {
    "empty": (b"", "bytes"),
    "another-magic": (prefix(padded(text_of()), magic=1) + good()[16:], "magic number 1"),
    "version": (prefix(padded(text_of()), version=2) + good()[16:], "version 2"),
    "cut-in-description": (good()[:100], "not complete or damaged"),
    "cut-in-tensors": (good()[:-4], "not complete"),
    "longer": (good() + b"\0", "not complete or its description"),
    "length-beyond-file": (prefix(padded(text_of()), length=2**20 - 16) + good()[16:], "announces"),
    "length-huge": (prefix(padded(text_of()), length=2**32 - 16) + good()[16:], "announces"),
    "length-not-aligned": (prefix(padded(text_of()), length=LENGTH - 1) + good()[16:], "announces"),
    "checksum": (prefix(padded(text_of()), crc=5) + good()[16:], "checksum"),
    "flipped-byte": (good().replace(b'"hidden": 6', b'"hidden": 7'), "checksum"),
    "no-json": (with_text("{", TENSORS), "no JSON"),
    "no-object": (with_text("[1]", TENSORS), "cannot be used"),
    "deep": (with_text("[" * 5000, TENSORS), "cannot be used"),
    "key-twice": (with_text(text_of()[:-1] + ', "step": 1}', TENSORS), "cannot be used"),
    "key-missing": (with_text(without("step"), TENSORS), "keys"),
    "key-unknown": (with_text(text_of(extra=1), TENSORS), "keys"),
    "key-renamed": (with_text(text_of().replace('"step"', '"stop"'), TENSORS), "step"),
    "number-is-text": (with_text(text_of(step="1"), TENSORS), "cannot be used"),
    "number-is-real": (with_text(text_of(hidden=6.5), TENSORS), "cannot be used"),
    "number-beyond-int64": (with_text(text_of(step=2**70), TENSORS), "cannot be used"),
    "list-is-number": (with_text(text_of(fc1_bandwidth=0), TENSORS), "cannot be used"),
    "list-too-short": (with_text(text_of(fc1_bandwidth=[0]), TENSORS), "one for each of 2"),
    "pattern-unknown": (with_text(text_of(pattern="ring"), TENSORS), "'ring'"),
    "bandwidth-negative": (with_text(text_of(fc2_bandwidth=[0, -1]), TENSORS), "-1"),
    "seed-too-large": (with_text(text_of(mask_seed=2**32), TENSORS), "mask_seed"),
    "step-negative": (with_text(text_of(step=-1), TENSORS), "step"),
    "hidden-0": (with_text(text_of(hidden=0), TENSORS), "hidden width is 0"),
    "rank-above-channels": (with_text(text_of(mlp_rank=5), TENSORS), "rank is 5"),
    "heads": (with_text(text_of(num_heads=3), TENSORS), "NH = 3"),
    "layers-huge": (with_text(text_of(num_layers=2**31), TENSORS), "L = "),
    "sizes-overflow": (
        with_text(text_of(channels=2**30, hidden=2**31 - 1, num_heads=1), TENSORS),
        "cannot be used",
    ),
    "sizes-of-another-model": (with_text(text_of(hidden=7), TENSORS), "asks for"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_bad_files_are_refused_by_both_readers(tmp_path, data, message):
    path = put(tmp_path / "bad.bin", data)
    with pytest.raises(FormatError) as error:
        _core.read_model(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises((ValueError, RecursionError)):
        model_files.read_model(data)


def test_mutated_files_are_read_alike(tmp_path):
    rng = np.random.default_rng(3)
    agreed = {True: 0, False: 0}
    for _ in range(600):
        about = ABOUT[rng.choice(list(ABOUT))]
        text = bytearray(padded(json.dumps(about)))
        for _ in range(rng.integers(0, 3)):  # the checksum is right: the parser is what is tested
            text[rng.integers(len(text))] = rng.integers(32, 127)
        tensors = b"".join(t.tobytes() for t in random_tensors(about).values())
        data = prefix(bytes(text)) + bytes(text) + tensors
        path = put(tmp_path / "m.bin", data)
        try:
            expected = model_files.read_model(data)
        except (ValueError, KeyError):
            expected = None
        try:
            header, found = _core.read_model(path)
        except FormatError:
            assert expected is None, bytes(text)
            agreed[False] += 1
            continue
        assert expected is not None, bytes(text)
        assert header == {**expected[0], "has_meta": True, "llmc": False}
        for name, values in expected[1].items():
            np.testing.assert_array_equal(found[name], values)
        agreed[True] += 1
    assert min(agreed.values()) > 50


def test_shapes_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "m.bin"
    for hidden, rank in ((-1, 0), (0, 9), (4, 5)):
        with pytest.raises(UsageError):
            _core.init_checkpoint(str(path), 8, 1, 2, 4, 11, "gpt2", 1, hidden, rank)
    assert not path.exists()


def test_pattern_that_cannot_be_is_the_files_fault(tmp_path, programs):
    """Blocks to within 2 % of so few entries do not exist: whoever reads the file says so."""
    config = {**SMALL, "channels": 16, "num_heads": 1, "vocab_size": V, "padded_vocab_size": V}
    about = description(
        config, hidden=64, pattern="block", fc1_bandwidth=[8, 8], fc2_bandwidth=[16, 16]
    )
    path = put(tmp_path / "m.bin", model_file(about, random_tensors(about)))
    sentence = r"m\.bin describes a model that cannot be: blocks along the diagonal"
    with pytest.raises(FormatError, match=sentence):
        _core.Model(str(path))
    with pytest.raises(FormatError, match=sentence):
        inspect_checkpoint(path)
    write_tokenizer_file(tmp_path / "words.bin", WORDS, V - 1)
    words = ["-e", path, "-p", "a", "--tokenizer", tmp_path / "words.bin"]
    done = subprocess.run([programs.generate_banded, *words], capture_output=True, text=True)
    assert done.returncode == 4
    assert re.search(sentence, done.stderr)
    _core.Model(str(path), pattern="band")  # what the caller asks for instead is his own
