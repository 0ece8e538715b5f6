"""The next token is drawn as the oracle draws it."""

import numpy as np
import pytest
from oracle import sampling

from pyllmc._core import sample_token
from pyllmc.errors import UsageError


@pytest.mark.parametrize("top_k", [0, 1, 3, 50, 1000])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_token(temperature, top_k):
    logits = np.random.default_rng(8).normal(0, 2, 50).astype(np.float32)
    logits[[7, 19]] = logits.max() + 1  # equal ones, so that ties count
    p = sampling.probabilities(logits.astype(np.float64), temperature, top_k)
    edges = np.cumsum(p)
    for coin in np.linspace(0, 1, 997, endpoint=False):
        if np.abs(edges - coin).min() < 1e-12:
            continue  # rounding of the sum decides
        assert sample_token(logits, temperature, top_k, coin) == sampling.pick(p, coin)


def test_large_logits_do_not_overflow():
    logits = np.array([-3e38, 1e4, 9999, 3e4], dtype=np.float32)
    assert sample_token(logits, 1.0, 0, 0.999) == 3


@pytest.mark.parametrize(("temperature", "top_k"), [(-1.0, 0), (float("nan"), 0), (1.0, -1)])
def test_options_that_mean_nothing_are_refused(temperature, top_k):
    with pytest.raises(UsageError, match="both must be 0 or more"):
        sample_token(np.zeros(4, np.float32), temperature, top_k, 0.5)
