"""The training order is the oracle's, over epochs and shards, and a function of the position."""

import itertools

import pytest
from oracle import data_order

from pyllmc._core import training_order


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
@pytest.mark.parametrize("shards", [[1], [5], [2, 0, 3], [700, 31]], ids=str)
def test_order(shards, seed):
    count = 3 * sum(shards) + 1
    tokens = [chunks * 6 + 1 for chunks in shards]
    expected = list(itertools.islice(data_order.training_order(tokens, 2, 3, seed), count))
    assert training_order(shards, seed, count) == expected
