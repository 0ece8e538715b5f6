"""Initial weights: each parameter's rule, drawn from the Philox stream of its own name."""

import math

import numpy as np
import pytest
from oracle import philox
from oracle.gpt2 import by_layer

from pyllmc._core import init_checkpoint, read_checkpoint

C, L, NH, MAX_T, V = 12, 2, 3, 5, 130
BIASES = {"qkvb": C, "attprojb": C, "fcb": C, "fcprojb": 4 * C}  # and the width of their inputs


def made(tmp_path, init, seed):
    """The header and the parameters by name."""
    path = str(tmp_path / f"{init}{seed}.bin")
    init_checkpoint(path, C, L, NH, MAX_T, V, init, seed)
    header, tensors = read_checkpoint(path)
    return header, by_layer(tensors)


@pytest.mark.parametrize("init", ["gpt2", "original"])
def test_every_parameter(tmp_path, init):
    seed = 77
    header, parameters = made(tmp_path, init, seed)
    assert header["padded_vocab_size"] == 256
    assert header["init_seed"] == seed
    assert len(parameters) == 2 + 12 * L + 2
    for name, values in parameters.items():
        kind = name.split(".")[-1]
        if kind.startswith("ln"):
            expected = np.full(values.shape, float(kind.endswith("w")))
        elif kind in BIASES:
            bound = 1 / math.sqrt(BIASES[kind]) if init == "original" else 0
            expected = bound * (2 * philox.uniform(seed, name, values.size) - 1)
        else:
            projection = kind in ("attprojw", "fcprojw") and init == "gpt2"
            stddev = 0.02 / math.sqrt(2 * L) if projection else 0.02
            rows = V if name == "wte" else len(values)
            expected = np.zeros(values.shape)
            expected[:rows] = stddev * philox.normal(seed, name, expected[:rows].size).reshape(
                rows, -1
            )
        np.testing.assert_allclose(values, expected.reshape(values.shape), rtol=1e-6, atol=1e-9)


def test_seed_and_name_decide(tmp_path):
    _, first = made(tmp_path, "gpt2", 1)
    _, second = made(tmp_path, "gpt2", 2)
    assert (first["h.0.fcw"] != second["h.0.fcw"]).all()
    assert (first["h.0.fcw"] != first["h.1.fcw"]).all()
