"""A small model and two token shards for training tests; a run that others are compared with."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from apps.lab import Lab, make_lab
from oracle import data_order
from oracle.inputs import Shape, write_model, write_tokens
from train.run_lab import WORDS, copy_of, outcome, prepare


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, programs: Any) -> Lab:
    """A lab with the data of run_lab's run, which has not begun."""
    return prepare(make_lab(tmp_path_factory.mktemp("fresh"), programs))


@pytest.fixture(scope="module")
def unbroken(fresh: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What run_lab's run leaves when nothing stops it."""
    lab = copy_of(fresh, tmp_path_factory.mktemp("unbroken") / "run")
    lab.trained(*WORDS)
    return outcome(lab)


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
