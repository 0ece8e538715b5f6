"""Settings and arguments that cannot work are refused by name, before anything is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from pyllmc._core import Model, Trainer, sample_token, training_order
from pyllmc.errors import UsageError

SEED = r"must be 0 to 4294967295"
THREADS = r"must be 1 to 4096"
BAD = {
    "batch-0": ({"batch_size": 0}, "B = 0 and T = 7 is not possible: both must be 1 or more"),
    "batch-negative": ({"batch_size": -1}, "B = -1 and T = 7 is not possible"),
    "length-0": ({"sequence_length": 0}, "B = 2 and T = 0 is not possible"),
    "tokens": ({"batch_size": 2**29}, "B = 536870912 and T = 7 has more than 2147483647 tokens"),
    "overflow": ({"batch_size": 2**62, "sequence_length": 4}, "has more than 2147483647 tokens"),
    "accumulate-0": ({"accumulate": 0}, "accumulate is 0, it must be 1 to 2147483647"),
    "accumulate-large": ({"accumulate": 2**62}, "accumulate is 4611686018427387904, it must be"),
    "threads-0": ({"threads": 0}, f"threads is 0, it {THREADS}"),
    "threads-many": ({"threads": 4097}, f"threads is 4097, it {THREADS}"),
    "data-seed": ({"data_seed": 2**32 + 42}, f"data_seed is 4294967338, it {SEED}"),
    "data-seed-negative": ({"data_seed": -1}, f"data_seed is -1, it {SEED}"),
    "mask-seed": ({"mask_seed": 2**32}, f"mask_seed is 4294967296, it {SEED}"),
}


@pytest.mark.parametrize(("settings", "sentence"), BAD.values(), ids=BAD)
def test_a_trainer_refuses(settings, sentence, files):
    shape = {"batch_size": files.shape.B, "sequence_length": files.shape.T}
    with pytest.raises(UsageError, match=sentence):
        Trainer(files.model, files.train_data, **(shape | settings))


@pytest.mark.parametrize("settings", [{"threads": 0}, {"threads": 4097}, {"mask_seed": 2**32}])
def test_a_model_refuses(settings, files):
    (name,) = settings
    with pytest.raises(UsageError, match=f"{name} is {settings[name]}, it must be"):
        Model(files.model, **settings)


def test_an_order_of_no_chunks_is_refused():
    for shards in ([], [0], [0, 0]):
        with pytest.raises(UsageError, match="an epoch of 0 chunks has no order"):
            training_order(shards, 1, 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_token_is_drawn_from_no_logits(temperature):
    with pytest.raises(UsageError, match="from no logits"):
        sample_token(np.zeros(0, np.float32), temperature, 0, 0.5)
