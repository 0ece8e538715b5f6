"""A small model and two token shards for training tests."""

from types import SimpleNamespace

import numpy as np
import pytest
from oracle import data_order
from oracle.inputs import Shape, write_model, write_tokens


@pytest.fixture
def files(tmp_path):
    """Paths of a model and its training data, and what the oracle trains on.

    `batches(steps, accumulate, seed)` lists the (inputs, targets) of every update.
    """
    shape = Shape(B=2, T=7, C=20, L=2, NH=4, V=37, Vp=40, max_T=9)
    model = tmp_path / "model.bin"
    oracle = write_model(model, shape)
    rng = np.random.default_rng(5)
    # 3 and 4 chunks of 14 tokens: ten updates go through more than one epoch.
    shards = [rng.integers(0, shape.V, count) for count in (50, 60)]
    for i, shard in enumerate(shards):
        write_tokens(tmp_path / f"train_{i}.bin", shard)

    def batches(steps, accumulate, seed):
        order = data_order.training_order([len(s) for s in shards], shape.B, shape.T, seed)
        return [
            [
                data_order.read(shards[shard], chunk, shape.B, shape.T)
                for shard, chunk in (next(order) for _ in range(accumulate))
            ]
            for _ in range(steps)
        ]

    return SimpleNamespace(
        shape=shape,
        model=str(model),
        train_data=str(tmp_path / "train_*.bin"),
        oracle=oracle,
        shards=shards,
        batches=batches,
    )
