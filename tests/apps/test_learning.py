"""A run learns: where the next token follows from the one before, the loss falls far below what
the tokens' frequencies alone allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from apps.lab import TRAIN_DATA, VAL_DATA, Lab

from pyllmc.data.statistics import unigram_entropy

SYMBOLS = 32


def write_walk(lab: Lab, path: str, count: int, seed: int) -> None:
    """Each symbol has two successors, equally likely: ln 2 nats a token are left to guess."""
    rng = np.random.default_rng(seed)
    ids = [0]
    for coin in rng.integers(0, 2, count):
        ids.append((5 * ids[-1] + 3 + 7 * int(coin)) % SYMBOLS)
    lab.tokens(path, ids)


@pytest.mark.parametrize("bands", ["", "-1 24 -2 24"], ids=["dense", "banded"])
def test_the_loss_falls_below_the_unigram_entropy(bands: str, lab: Lab) -> None:
    write_walk(lab, TRAIN_DATA, 20_000, seed=1)
    write_walk(lab, VAL_DATA, 2_000, seed=2)
    entropy = unigram_entropy(lab.folder / VAL_DATA)
    assert entropy == pytest.approx(math.log(SYMBOLS), abs=0.05)
    lab.trained("-n 400 -l 0.01 --min-lr 0.001 -b 8 -v 0 -g 0 -o log.txt", bands)
    start, end = (event["loss"] for event in lab.events("val"))
    assert start > entropy + 1
    assert math.log(2) - 0.02 < end < math.log(2) + 0.1
