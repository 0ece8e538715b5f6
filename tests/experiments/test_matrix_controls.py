"""What a matrix file may say about controls: learning rates, patterns, layers, shapes, seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments.matrix_lab import MATRIX

from pyllmc import _core
from pyllmc.errors import UsageError
from pyllmc.experiments.command import command
from pyllmc.experiments.identity import Fingerprints, configuration, identity
from pyllmc.experiments.inputs import make_model, model_change
from pyllmc.experiments.matrix import Cell, Matrix, Run, load_matrix
from pyllmc.experiments.overrides import parse_overrides
from pyllmc.experiments.rows import rate_text
from pyllmc.experiments.script import shell_script


def load(folder: Path, text: str = MATRIX, *words: str) -> Matrix:
    (folder / "matrix.toml").write_text(text)
    return load_matrix(folder, parse_overrides(words))


def words(matrix: Matrix, run: Run, seed: int | None = None) -> dict[str, str]:
    """The options that the trainer is started with."""
    given = command(matrix, Cell(run, seed), "train_banded")[1:]
    return dict(zip(given[::2], given[1::2], strict=True))


def hashes(matrix: Matrix, seed: int | None = None) -> list[str]:
    prints = Fingerprints()
    return [identity(configuration(matrix, Cell(run, seed), prints)) for run in matrix.runs]


def test_a_list_of_learning_rates_makes_an_arm_of_each_row(tmp_path: Path) -> None:
    text = MATRIX.replace("val_every = 3", "val_every = 3\nlearning_rate = [1e-4, 2.5e-4, 1]")
    matrix = load(tmp_path, text + "learning_rate = 3e-3\n")
    assert [(run.name, run.arm, run.learning_rate) for run in matrix.runs] == [
        ("dense_lr1e-4", "dense", 1e-4),
        ("dense_lr2.5e-4", "dense", 2.5e-4),
        ("dense_lr1e0", "dense", 1.0),
        ("fc1_bw16_lr1e-4", "fc1_bw16", 1e-4),
        ("fc1_bw16_lr2.5e-4", "fc1_bw16", 2.5e-4),
        ("fc1_bw16_lr1e0", "fc1_bw16", 1.0),
        ("fc2_bw16", "fc2_bw16", 3e-3),
    ]
    assert matrix.runs[0].label == "Dense, lr 1e-4"
    assert (matrix.baseline, matrix.runs[3].baseline) == ("dense", "dense")
    assert words(matrix, matrix.runs[1])["-l"] == "0.00025"
    assert len(set(hashes(matrix))) == 7
    single = load(tmp_path, text, "learning_rate=1e-3")
    assert [run.name for run in single.runs] == ["dense", "fc1_bw16", "fc2_bw16"]


@pytest.mark.parametrize("rate", [1e-4, 3e-4, 6.25e-5, 1e-3, 0.5, 2, 1.23456e-3])
def test_names_give_the_learning_rate_back(rate: float) -> None:
    assert float(rate_text(rate)) == rate


def test_patterns_bandwidths_by_layer_and_the_rest_reach_the_trainer(tmp_path: Path) -> None:
    text = MATRIX.replace("layers = 1", "layers = 2") + (
        'fc1_bandwidth = [8, 0]\npattern = "random"\nmask_seed = 7\n'
        'init_scale = "inverse-sqrt-density"\ntrain_eval_batches = 3\n'
    )
    matrix = load(tmp_path, text)
    run = matrix.runs[2]
    assert (run.fc1_bandwidths, run.fc2_bandwidths) == ((8, 0), (16, 16))
    assert (run.fc1_bandwidth, run.fc2_bandwidth) == (0, 16)
    assert (run.pattern, run.mask_seed) == ("random", 7)
    given = words(matrix, run)
    assert (given["-1"], given["-2"]) == ("8,0", "16")
    assert given["--pattern"] == "random"
    assert given["--mask-seed"] == "7"
    assert given["--init-scale"] == "inverse-sqrt-density"
    assert given["--train-eval-batches"] == "3"
    assert not {"--pattern", "--mask-seed", "--init-scale"} & words(matrix, matrix.runs[0]).keys()
    pattern = _core.Pattern.make("random", 32, 8, "rows", 8, 7, "h.0.", "h.0.fcw")
    assert run.kept("fc1") == (pattern.kept + 256, 512)


CHANGES = {
    "pattern": 'pattern = "block"',
    "mask_seed": "mask_seed = 5",
    "init_scale": 'init_scale = "inverse-sqrt-density"',
    "train_eval_batches": "train_eval_batches = 2",
    "init_seed": "init_seed = 4",
    "fc1_bandwidth": "fc1_bandwidth = 8",
    "hidden": "[run.model]\nhidden = 20",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_of_them_is_part_of_a_runs_identity(tmp_path: Path, change: str) -> None:
    matrix = load(tmp_path)
    before, after = hashes(matrix), hashes(load(tmp_path, MATRIX + change + "\n"))
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_defaults_written_out_leave_the_identity_as_it_was(tmp_path: Path) -> None:
    """So that cells of a folder from before these settings existed count as done."""
    written = 'pattern = "band"\nmask_seed = 1337\ninit_scale = "none"\ntrain_eval_batches = 0\n'
    assert hashes(load(tmp_path)) == hashes(load(tmp_path, MATRIX + written))
    config = configuration(load(tmp_path), Cell(load(tmp_path).runs[2], None), Fingerprints())
    assert not {"pattern", "mask_seed", "init_scale", "init_seed"} & config["settings"].keys()
    assert "hidden" not in config["model"]


def test_seeds_can_be_moved_apart(tmp_path: Path) -> None:
    matrix = load(tmp_path, MATRIX + "init_seed = 9\ndata_seed = 8\n", "seeds=[1, 2]")
    shared, own = matrix.runs[0], matrix.runs[2]
    for seed in (1, 2):
        assert matrix.weights(shared, seed).seed == seed
        assert matrix.weights(shared, seed).path == tmp_path / f"model_s{seed}.bin"
        assert matrix.weights(matrix.runs[1], seed) == matrix.weights(shared, seed)
        assert matrix.weights(own, seed).path == tmp_path / "model_s9.bin"
        assert "--init-seed" not in words(matrix, shared, seed)
        given = words(matrix, own, seed)
        assert (given["--seed"], given["--init-seed"], given["--data-seed"]) == (
            str(seed),
            "9",
            "8",
        )
        assert list(given).index("--seed") < list(given).index("--init-seed")


def test_rows_with_a_model_of_their_own_start_from_their_own_file(tmp_path: Path) -> None:
    narrow = MATRIX + "fc2_bandwidth = 0\n[run.model]\nhidden = 20\nmlp_rank = 3\n"
    text = narrow.replace("fc2_bandwidth = 16\n", "")
    matrix = load(tmp_path, text, "seeds=[5]")
    common, own = matrix.runs[0], matrix.runs[2]
    assert (own.model.hidden_width, own.model.mlp_rank) == (20, 3)
    assert (common.model.hidden_width, common.model.mlp_rank) == (32, 0)
    assert own.kept("fc1") == (3 * 28, 160)
    weights = matrix.weights(own, 5)
    assert weights.path == tmp_path / "model_h20_r3_s5.bin"
    assert words(matrix, own, 5)["-e"] == str(weights.path)
    assert "--hidden 20 --mlp-rank 3" in shell_script(matrix)
    for each in (matrix.weights(common, 5), weights):
        assert model_change(matrix, each) is None
        make_model(matrix, each)
        assert model_change(matrix, each) is None
    header, tensors = _core.read_model(weights.path)
    assert (header["hidden"], header["mlp_rank"], header["init_seed"]) == (20, 3, 5)
    plain = _core.read_model(matrix.weights(common, 5).path)[1]
    assert (tensors["qkvw"] == plain["qkvw"]).all()  # equal names start alike
    wider = load(tmp_path, text.replace("hidden = 20", "hidden = 24"), "seeds=[5]")
    other = matrix.out / "model_h24_r3_s5.bin"
    weights.path.rename(other)
    with pytest.raises(UsageError, match="hidden 20 -> 24"):
        model_change(wider, wider.weights(wider.runs[2], 5))


def test_a_margin_is_declared_in_nats(tmp_path: Path) -> None:
    assert load(tmp_path).margin is None
    text = MATRIX.replace("[data]", "[margin]\nnats = 0.02\n[data]")
    assert load(tmp_path, text).margin == 0.02
    assert load(tmp_path, text, "margin.nats=0.5").margin == 0.5


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("learning_rate = []", "learning_rate is []; a list names at least one rate, each once"),
        ("learning_rate = [1e-3, 0.001]", "each once"),
        ("learning_rate = [1e-3, 0]", "learning_rate is 0; it must be greater than 0"),
        ('learning_rate = ["a"]', "learning_rate is 'a'; it must be a number"),
        ("fc1_bandwidth = [1, 2]", "fc1_bandwidth lists 2 values; it must be one, or one a layer"),
        ("fc1_bandwidth = [-1]", "fc1_bandwidth is -1"),
        ("steps = [1, 2]", "steps is [1, 2]; it must be a whole number"),
        ('pattern = "ring"', "pattern is 'ring'; it must be one of band, random, block"),
        ("mask_seed = 4294967296", "mask_seed is 4294967296; it must be from 0 to 4294967295"),
        ('init_scale = "big"', "init_scale is 'big'"),
        ('init_scale = "inverse-sqrt-density"\nmask_init = 0', "but mask_init is 0"),
        ("[run.model]\nmlp_rank = 2", "but mlp_rank is 2; a low-rank weight has no band"),
        ("[run.model]\nmlp_rank = 9", "mlp_rank is 9; it must be at most 8"),
        ("[run.model]\nhidden = 0", "hidden is 0; it must be from 1"),
        ("[run.model]\nchannels = 16", "channels is not a key"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, added: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tmp_path, MATRIX + added + "\n")
    assert message in str(error.value)
    assert "fc2_bw16" in str(error.value)


def test_margins_and_patterns_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for text, message in (
        (MATRIX.replace("[data]", "[margin]\nnats = 0\n[data]"), "nats is 0"),
        (MATRIX.replace("[data]", "[margin]\n[data]"), ""),
        (MATRIX.replace("[data]", "[margin]\npercent = 1\n[data]"), "percent is not a key"),
        (MATRIX.replace('label = "Dense"', 'pattern = "random"'), "both bandwidths are 0"),
        (MATRIX.replace('label = "Dense"', 'baseline = "fc1_bw16_lr1e-3"'), "the runs are"),
    ):
        if not message:
            assert load(tmp_path, text).margin is None
            continue
        with pytest.raises(UsageError, match=message):
            load(tmp_path, text)


def test_controls_that_ship_have_the_weights_they_promise(repo_root: Path) -> None:
    matrix = load_matrix(repo_root / "runs/banded-controls")
    arms = {run.arm: run for run in matrix.runs}
    kept = {name: run.kept("fc1")[0] + run.kept("fc2")[0] for name, run in arms.items()}
    for band, share in (("256", 0.439), ("512", 0.751)):
        assert kept[f"band_{band}"] == pytest.approx(share * kept["baseline"], rel=1e-3)
    like = {"narrow_225": "256", "low_rank_45": "256", "narrow_384": "512"}
    for name, run in arms.items():
        if name in ("baseline", "wide_1024"):
            band = "baseline"
        else:
            band = f"band_{like.get(name, '256' if '256' in name else '512')}"
        assert kept[name] == pytest.approx(kept[band], rel=3e-3), name
        assert matrix.weights(run, 3).seed == 3
    assert len({run.mask_seed for run in arms.values() if run.pattern == "random"}) == 3
    assert {run.learning_rate for run in matrix.runs} == {1e-3, 3e-3}
    assert len(matrix.runs) == 2 * len(arms)
    assert matrix.seeds == (1, 2, 3, 4, 5)
    assert matrix.margin == 0.02
