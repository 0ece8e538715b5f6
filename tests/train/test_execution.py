"""Training with stored bands: the masked run's losses, exact zeros, less memory, the same bits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from formats.llmc_files import read_checkpoint
from oracle.inputs import Shape, write_model, write_tokens

from pyllmc._core import Pattern, Trainer, init_checkpoint

STEPS = 50
LR = 1e-3
# (fc1, fc2) by C: the least, odd ones, about the widest that is stored alone, one short of
# all-ones, all-ones; and one side only.
EDGES = {
    16: [(1, 1), (7, 20), (33, 34), (125, 126), (9, 0)],
    64: [(1, 3), (33, 100), (225, 226), (509, 510), (0, 64)],
    96: [(2, 1), (95, 353), (765, 31)],
    128: [(1, 2), (3, 481), (31, 256), (64, 33), (7, 8), (32, 2), (1021, 511), (1022, 1)],
    512: [(1, 2047), (4093, 3), (8, 64), (63, 256), (257, 65), (512, 1024), (4094, 1)],
}


def make_files(folder, C, B=2, T=8, L=1, V=61):
    shape = Shape(B=B, T=T, C=C, L=L, NH=4, V=V, Vp=64, max_T=T)
    write_model(folder / "model.bin", shape)
    tokens = np.random.default_rng(5).integers(0, V, 6 * B * T + 1)
    write_tokens(folder / "train.bin", tokens)
    return SimpleNamespace(
        folder=folder, shape=shape, model=str(folder / "model.bin"), data=str(folder / "train.bin")
    )


@pytest.fixture(scope="module")
def by_width(tmp_path_factory):
    return {C: make_files(tmp_path_factory.mktemp(f"C{C}"), C) for C in EDGES}


def make_trainer(files, bands=(0, 0), model=None, **settings):
    return Trainer(
        model or files.model, files.data, sequence_length=files.shape.T,
        fc1_bandwidth=bands[0], fc2_bandwidth=bands[1],
        **({"learning_rate": LR, "batch_size": files.shape.B} | settings),
    )  # fmt: skip


def weights(trainer):
    return {p.name: p.dense() for p in trainer.parameters()}


def mlp(trainer):
    return [p for p in trainer.parameters() if p.name.endswith(("fcw", "fcprojw"))]


def stored_alone(parameter):
    return parameter.packed().size < np.prod(parameter.shape)


@pytest.mark.parametrize("mask_init", [True, False], ids=["masked", "unmasked-first"])
@pytest.mark.parametrize(
    ("C", "bands"), [(C, bands) for C, cases in EDGES.items() for bands in cases], ids=str
)
def test_band_and_mask_learn_the_same(C, bands, mask_init, by_width):
    # A wide model knows these few tokens by heart early, and what is left of its loss is rounding.
    settings = {"mask_init": mask_init, "learning_rate": LR if C < 512 else LR / 10}
    runs = [
        make_trainer(by_width[C], bands, execution=execution, **settings)
        for execution in ("band", "mask")
    ]
    losses, norms = [], []
    for _ in range(STEPS):
        reports = [run.step() for run in runs]
        losses.append([report["loss"] for report in reports])
        norms.append([report["grad_norm"] for report in reports])
    band, mask = np.array(losses).T
    if not mask_init:
        assert band[0] == mask[0]  # before the change-over it is the same computation
    assert mask[-1] < 0.95 * mask[0]
    np.testing.assert_allclose(band, mask, rtol=1e-4)
    np.testing.assert_allclose(*np.array(norms).T, rtol=2e-2)


def tile_floats(parameter):
    """Entries in the windows of 32 hidden units, from one even channel to another."""
    mask = parameter.pattern.mask()
    by_hidden = mask if parameter.name.endswith("fcw") else mask.T
    total = 0
    for first in range(0, len(by_hidden), 32):
        seen = by_hidden[first : first + 32].any(axis=0).nonzero()[0]
        begin, end = seen[0] // 2 * 2, (seen[-1] + 2) // 2 * 2
        total += 32 * (end - begin)
    return total


def test_bands_are_stored_alone_where_that_pays_and_only_there(by_width):
    for C, cases in EDGES.items():
        kinds = set()
        for bands in cases:
            mask = make_trainer(by_width[C], bands, execution="mask")
            assert not any(map(stored_alone, mlp(mask)))
            for parameter in mlp(make_trainer(by_width[C], bands, execution="band")):
                whole, alone = 4 * C * C, tile_floats(parameter)
                pays = not parameter.pattern.is_dense and alone <= 0.96 * whole
                assert parameter.packed().size == (alone if pays else whole)
                kinds.add(pays)
        assert kinds == {True, False}


@pytest.mark.parametrize("bands", [(0, 0), (96, 64)], ids=["dense", "band"])
def test_activations_too_large_for_caches_give_the_same(bands, tmp_path):
    """From 16 MiB on they are stored past the caches: of 32 sequences, all but the projections'.
    Every batch is one sequence, repeated."""
    files = make_files(tmp_path, 256, T=512)
    sequence = np.random.default_rng(6).integers(0, files.shape.V, 512)
    write_tokens(tmp_path / "train.bin", np.tile(sequence, 33))
    runs = []
    for batch in (1, 32):
        run = make_trainer(files, bands, batch_size=batch)
        runs.append([[report["loss"], report["grad_norm"]] for report in (run.step(), run.step())])
    np.testing.assert_allclose(*runs, rtol=1e-5)


def test_an_unmasked_start_is_whole_until_the_first_update(by_width):
    run = make_trainer(by_width[64], (33, 64), execution="band", mask_init=False)
    assert not any(map(stored_alone, mlp(run)))
    run.step()
    assert all(map(stored_alone, mlp(run)))


@pytest.mark.parametrize("mask_init", [True, False])
def test_weights_and_moments_off_the_band_are_0(mask_init, by_width):
    run = make_trainer(
        by_width[128], (33, 100), mask_init=mask_init, weight_decay=0.1, execution="band"
    )
    for _ in range(5):
        run.step()
        moments = run.optimizer_state()
        for parameter in mlp(run):
            assert stored_alone(parameter)
            inside, outside = parameter.pattern.mask(), ~parameter.pattern.mask()
            for array in (parameter.dense(), *(moments[slot][parameter.name] for slot in "mv")):
                assert not array[outside].any()
                assert not np.signbit(array[outside]).any()
                assert array[inside].any()
            # Nothing hides in the corners of the stored tiles either.
            assert np.count_nonzero(parameter.packed()) <= parameter.pattern.kept
            assert np.count_nonzero(parameter.packed()) >= 0.99 * parameter.pattern.kept


@pytest.mark.parametrize("mask_init", [True, False])
def test_checkpoints_are_plain_files_of_either_execution(mask_init, by_width, tmp_path):
    files, bands = by_width[96], (61, 30)
    saved = {}
    for execution in ("band", "mask"):
        run = make_trainer(files, bands, execution=execution, mask_init=mask_init)
        for _ in range(4):
            run.step()
        path = tmp_path / f"{execution}.bin"
        run.save(str(path))
        header, tensors = read_checkpoint(path.read_bytes())
        saved[execution] = header, tensors
        for name, array in weights(run).items():
            kind = name.split(".")[-1]
            stacked = tensors[kind]
            file = stacked[int(name.split(".")[1])] if name.startswith("h.") else stacked
            np.testing.assert_array_equal(file, array, err_msg=name)
    assert saved["band"][0] == saved["mask"][0]
    assert (tmp_path / "band.bin").stat().st_size == (tmp_path / "mask.bin").stat().st_size
    for name, tensor in saved["mask"][1].items():
        difference = np.abs(saved["band"][1][name] - tensor)
        if name == "qkvb":  # the key bias moves by its rounding errors
            difference[:, 96:192] = 0
        assert difference.mean() <= 1e-3 * LR * 4, name
    # And either execution goes on from either file: packed on load.
    losses = [
        make_trainer(files, bands, model=str(tmp_path / f"{file}.bin"), execution=to).step()["loss"]
        for file in saved
        for to in saved
    ]
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# What a tile's window adds weighs more in narrow models (sparsity/band_layout.h); at C = 128 it is
# about 0.06, more or less with the bandwidth.
WIDER = [(64, 8), (64, 32), (64, 64), (128, 8), (128, 201)]
WITHIN = [(128, 16), (128, 64), (128, 256), (256, 8), (256, 64), (256, 512)]
WITHIN += [(512, 64), (512, 256), (512, 512), (1024, 256), (1024, 512)]


@pytest.mark.parametrize(("C", "bandwidth"), WIDER + WITHIN)
def test_memory_follows_density(C, bandwidth, tmp_path):
    init_checkpoint(str(tmp_path / "m.bin"), C, 1, 8, 1, 2)
    write_tokens(tmp_path / "t.bin", np.zeros(4))
    run = Trainer(
        str(tmp_path / "m.bin"), str(tmp_path / "t.bin"), batch_size=1, sequence_length=1,
        fc1_bandwidth=bandwidth, fc2_bandwidth=bandwidth, execution="band",
    )  # fmt: skip
    # Weights, gradients and both moments are buffers of one layout.
    for parameter in mlp(run):
        share = parameter.packed().size / (4 * C * C)
        density = Pattern.band(4 * C, C, bandwidth).density
        assert density <= share <= density + 9.75 / C
        assert (share <= density + 0.06) == ((C, bandwidth) in WITHIN)


CASES = {
    "band": {"execution": "band"},
    "band-first-step-whole": {"execution": "band", "mask_init": False},
    "band-bf16": {"execution": "band", "precision": "bf16", "grad_clip": 0.5},
    "mask-bf16": {"execution": "mask", "precision": "bf16", "accumulate": 2},
    "dense-bf16": {"precision": "bf16", "weight_decay": 0.1},
}


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads_gives_the_same_bits(case, tmp_path):
    # More than one row block, chunk, tile of hidden units and panel.
    files = make_files(tmp_path, 136, B=2, T=140)
    bands = (0, 0) if case.startswith("dense") else (100, 41)

    def run(threads):
        trainer = make_trainer(files, bands, threads=threads, **CASES[case])
        reports = [trainer.step() for _ in range(4)]
        moments = trainer.optimizer_state()
        sizes = [parameter.packed().size for parameter in trainer.parameters()]
        return reports, sizes, [weights(trainer), moments["m"], moments["v"]]

    reports, sizes, state = run(1)
    for threads in (2, 3):
        again = run(threads)
        assert again[:2] == (reports, sizes)  # storage is chosen by the pattern alone
        for one, more in zip(state, again[2], strict=True):
            for name, array in one.items():
                np.testing.assert_array_equal(array, more[name], err_msg=name)
