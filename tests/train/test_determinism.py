"""The same run gives the same bits with any number of threads, and again."""

import numpy as np
import pytest
from oracle.inputs import Shape, write_model, write_tokens

from pyllmc._core import Trainer

# Several tiles in every direction: rows (2 x 140 > 256), hidden width and vocabulary (> 512).
SHAPE = Shape(B=2, T=140, C=136, L=1, NH=4, V=1100, Vp=1152, max_T=140)
CASES = {
    "dense": {},
    "bands": {"fc1_bandwidth": 100, "fc2_bandwidth": 50, "weight_decay": 0.1, "grad_clip": 0.5},
    "accumulate": {"accumulate": 2},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("determinism")
    write_model(folder / "model.bin", SHAPE)
    tokens = np.random.default_rng(0).integers(0, SHAPE.V, 5 * SHAPE.B * SHAPE.T + 1)
    write_tokens(folder / "train.bin", tokens)
    return str(folder / "model.bin"), str(folder / "train.bin")


def run(paths, case, threads):
    """Reports of five updates, and every weight and moment after them."""
    trainer = Trainer(*paths, batch_size=SHAPE.B, sequence_length=SHAPE.T, threads=threads, **case)
    reports = [trainer.step() for _ in range(5)]
    loss = trainer.evaluate(paths[1], 2)
    state = trainer.optimizer_state() | {"p": {p.name: p.dense() for p in trainer.parameters()}}
    return [*reports, loss], state


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_any_number_of_threads_gives_the_same_bits(paths, case):
    reports, state = run(paths, case, threads=1)
    for threads in (1, 2, 3):
        reports_again, state_again = run(paths, case, threads)
        assert reports_again == reports
        for slot, arrays in state.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, state_again[slot][name])
