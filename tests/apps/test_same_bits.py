"""Runs that must give the same bytes: again, on other threads, with a band that keeps all."""

from __future__ import annotations

import numpy as np
import pytest
from apps.lab import DENSE_AT, Lab

WORDS = "-n 6 -v 2 -l 0.003 -s 3 -g 12 --weight-decay 0.1 --grad-clip 0.5"


def outcome(lab: Lab, name: str, *words: object) -> tuple[str, bytes]:
    """Log and checkpoint of a run."""
    lab.trained(WORDS, *words, "-o", f"{name}.txt", "-c", f"{name}.bin")
    return (lab.folder / f"{name}.txt").read_text(), (lab.folder / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("bands", ["", "-1 24 -2 40"], ids=["dense", "banded"])
def test_the_same_command_gives_the_same_bytes(bands: str, lab: Lab) -> None:
    first = outcome(lab, "first", bands)
    assert outcome(lab, "again", bands) == first
    assert [event["text"] for event in lab.events("sample", "first")] == [
        event["text"] for event in lab.events("sample", "again")
    ]


@pytest.mark.parametrize("bands", ["", "-1 100 -2 300"], ids=["dense", "banded"])
def test_threads_do_not_change_a_bit(bands: str, lab: Lab) -> None:
    # Wide enough for several tiles; more threads than tiles of the vocabulary.
    lab.model(channels=144)
    words = (bands, "-m 2 -n 3")
    one = outcome(lab, "one", *words)
    for threads in (2, 3):
        assert outcome(lab, "more", *words, "--threads", threads) == one
        samples = [event["text"] for event in lab.events("sample", "more")]
        assert samples == [event["text"] for event in lab.events("sample", "one")]


@pytest.mark.parametrize(
    "bands", [(DENSE_AT, 0), (0, DENSE_AT), (DENSE_AT, DENSE_AT), (10 * DENSE_AT, 0)], ids=str
)
def test_a_band_that_keeps_everything_repeats_the_dense_run(
    bands: tuple[int, int], lab: Lab
) -> None:
    log, _ = outcome(lab, "dense")
    assert outcome(lab, "band", "-1", bands[0], "-2", bands[1])[0] == log
    header, weights = lab.checkpoint("band.bin")
    assert (header["fc1_bandwidth"], header["fc2_bandwidth"]) == bands
    for name, tensor in lab.checkpoint("dense.bin")[1].items():
        assert tensor.tobytes() == weights[name].tobytes(), name
    losses = [[event["loss"] for event in lab.events("train", run)] for run in ("dense", "band")]
    assert losses[0] == losses[1]


def test_a_band_that_leaves_one_entry_out_does_not(lab: Lab) -> None:
    log, _ = outcome(lab, "dense")
    assert outcome(lab, "band", "-1", DENSE_AT - 1)[0] != log
    _, weights = lab.checkpoint("band.bin")
    assert np.count_nonzero(weights["fcw"] == 0) == len(weights["fcw"])
