"""The matrix file: what it says, what is refused, and the four that ship."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from experiments.matrix_lab import MATRIX

from pyllmc.errors import UsageError
from pyllmc.experiments.matrix import Cell, load_matrix
from pyllmc.experiments.overrides import parse_overrides


def load(folder: Path, text: str = MATRIX, *words: str):
    (folder / "matrix.toml").write_text(text)
    return load_matrix(folder, parse_overrides(words))


def test_common_settings_are_each_runs_unless_it_says_otherwise(tmp_path: Path) -> None:
    matrix = load(tmp_path, MATRIX + "steps = 4\n")
    assert [run.settings["steps"] for run in matrix.runs] == [6, 6, 4]
    assert [(run.fc1_bandwidth, run.fc2_bandwidth) for run in matrix.runs] == [
        (0, 0),
        (16, 0),
        (0, 16),
    ]
    assert [cell.name for cell in matrix.cells()] == ["dense", "fc1_bw16", "fc2_bw16"]


def test_paths_name_the_cell(tmp_path: Path) -> None:
    matrix = load(tmp_path, MATRIX, "seeds=[3, 4]")
    run = matrix.runs[1]
    assert [cell.name for cell in matrix.cells()][:2] == ["dense_s3", "fc1_bw16_s3"]
    assert Cell(run, 4).name == "fc1_bw16_s4"
    assert matrix.log_path(run, None) == tmp_path / "logs" / "log_fc1_bw16.txt"
    assert matrix.log_path(run, 4) == tmp_path / "logs" / "log_fc1_bw16_s4.txt"
    assert matrix.checkpoint_path(run, 4) == tmp_path / "checkpoints" / "ckpt_fc1_bw16_s4.bin"
    assert matrix.model_path(None) == tmp_path / "model.bin"
    assert matrix.model_path(4) == tmp_path / "model_s4.bin"


def test_a_runs_own_data_replace_the_common_and_their_test_split(tmp_path: Path) -> None:
    text = MATRIX.replace('val = "data/t_val.bin"', 'val = "data/t_val.bin"\ntest = "data/t.bin"')
    matrix = load(tmp_path, text + '[run.data]\ntrain = "x_train.bin"\n')
    assert matrix.runs[0].data.test == "data/t.bin"
    assert matrix.runs[2].data.train == "x_train.bin"
    assert matrix.runs[2].data.val == "data/t_val.bin"
    assert matrix.runs[2].data.test is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("schema = 1", "schema = 2", "schema is 2"),
        ("schema = 1", "", "schema is missing"),
        ("questions", "question", "question is not a key of a matrix file; did you mean questions"),
        ("steps = 6", "stepz = 6", "[train] stepz is not a key"),
        ("steps = 6", "", "steps is missing"),
        ("steps = 6", "steps = 0", "steps is 0; it must be from 1 to 2147483647"),
        ("steps = 6", "steps = 1000000000000", "steps is 1000000000000; it must be from 1 to"),
        ("steps = 6", "steps = true", "steps is True; it must be a whole number"),
        ("steps = 6", "steps = 6.5", "steps is 6.5; it must be a whole number"),
        ("val_every = 3", "learning_rate = 0", "learning_rate is 0; it must be greater than 0"),
        ("val_every = 3", "learning_rate = nan", "learning_rate is nan"),
        ("val_every = 3", "learning_rate = inf", "learning_rate is inf"),
        ("val_every = 3", "mask_init = 2", "mask_init is 2; it must be from 0 to 1"),
        ("fc1_bandwidth = 16", "fc1_bandwidth = -1", "[[run]] fc1_bw16 fc1_bandwidth is -1"),
        ("fc1_bandwidth = 16", "fc1_bandwith = 16", "did you mean fc1_bandwidth"),
        (
            "sequence_length = 16",
            "sequence_length = 33",
            "sequence_length is 33, more than [model]",
        ),
        ('name = "fc1_bw16"', 'name = "dense"', "name 'dense' is used twice"),
        ('name = "fc1_bw16"', 'name = "DENSE"', "name 'DENSE' is used twice"),
        ('name = "fc1_bw16"', 'name = "../x"', "name is '../x'"),
        ('name = "fc1_bw16"', 'name = "x_s1"', "must not end in _s<number>"),
        ('label = "FC1-16"', 'label = "a\\nb"', "must be one line"),
        ('baseline = "dense"', 'baseline = "none"', "baseline is 'none', but the runs are dense"),
        ('baseline = "dense"', 'baseline = "dense"\nreference = "r.csv"', "reference is 'r.csv'"),
        ('baseline = "dense"', 'baseline = "dense"\nseeds = [1, 1]', "seeds is [1, 1]"),
        ('baseline = "dense"', 'baseline = "dense"\nseeds = [-1]', "seeds holds -1"),
        (
            'baseline = "dense"',
            'baseline = "dense"\nseeds = [4294967295, 4294967296]',
            "seeds holds 4294967296; a seed is a whole number from 0 to 4294967295",
        ),
        (
            "vocab = 64",
            "vocab = 64\nseed = 5000000000",
            "[model] seed is 5000000000; it must be from 0 to 4294967295",
        ),
        ("heads = 2", "heads = 3", "channels is 8, not a multiple of heads 3"),
        ("vocab = 64", 'vocab = 64\nfile = "a/b"', "file is 'a/b'"),
        ("vocab = 64", 'vocab = 64\ninit = "zeros"', "one of gpt2, original"),
        ('val = "data/t_val.bin"', 'val = "v"\nprepare = "web"', "one of ministories, random"),
        ('val = "data/t_val.bin"', 'val = "v"\nprepare = "random"', "prepare makes random_train"),
        ("schema = 1", "schema = ", "is not valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_key(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in MATRIX
    with pytest.raises(UsageError) as error:
        load(tmp_path, MATRIX.replace(before, after, 1))
    assert message in str(error.value)
    assert str(tmp_path / "matrix.toml") in str(error.value)


def test_folder_without_a_matrix_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no matrix\.toml"):
        load_matrix(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('run = "x"\nagainst = "dense"\nlow_percent = 1', "run is 'x'"),
        ('run = "fc1_bw16"\nagainst = "dense"', "are both missing"),
        (
            'run = "fc1_bw16"\nagainst = "dense"\nlow_percent = 2\nhigh_percent = 1',
            "more than high_percent",
        ),
    ],
)
def test_expectation_that_cannot_be_judged_is_refused(
    tmp_path: Path, entry: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, f'{MATRIX}[[expectations]]\ntext = "t"\n{entry}\n')


def test_overrides_win_over_common_and_own_settings(tmp_path: Path) -> None:
    text = MATRIX + "steps = 4\n"
    matrix = load(tmp_path, text, "steps=9", "train.learning_rate=1e-3", "model.channels=16")
    assert {run.settings["steps"] for run in matrix.runs} == {9}
    assert matrix.runs[0].settings["learning_rate"] == 1e-3
    assert matrix.model.channels == 16


def test_other_training_data_take_the_old_test_split_away(tmp_path: Path) -> None:
    text = MATRIX.replace('val = "data/t_val.bin"', 'val = "v.bin"\ntest = "t.bin"')
    assert load(tmp_path, text, "data.train=a.bin").data.test is None
    assert load(tmp_path, text, "data.train=a.bin", "data.test=b.bin").data.test == "b.bin"
    assert load(tmp_path, text, "data.test=").data.test is None
    assert load(tmp_path, text, "data.val=b.bin").data.test == "t.bin"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("steps", "has no value"),
        ("step=3", "did you mean steps"),
        ("model.file=x", "is not a setting"),
        ("steps=many", "steps is 'many'; it must be a whole number"),
    ],
)
def test_override_that_means_nothing_is_refused(tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, MATRIX, word)


@pytest.mark.parametrize("name", ["00009-banded-fc-comparison", "demo"])
def test_ten_runs_are_those_of_the_plan(repo_root: Path, name: str) -> None:
    matrix = load_matrix(repo_root / "runs" / name)
    bands = {run.name: (run.fc1_bandwidth, run.fc2_bandwidth) for run in matrix.runs}
    expected = {"baseline": (0, 0)}
    for width in (1024, 512, 256):
        expected |= {f"fc1_bw{width}": (width, 0), f"fc2_bw{width}": (0, width),
                     f"both_bw{width}": (width, width)}  # fmt: skip
    assert bands == expected
    assert matrix.model.channels == 128
    assert matrix.runs[0].settings["mask_init"] == 0


@pytest.mark.parametrize(
    ("name", "rows", "initial"),
    [("00009-banded-fc-comparison", 110, 10.8544), ("00008-banded-tinystories", 16, 10.93)],
)
def test_published_numbers_are_of_known_runs_and_logged_steps(
    repo_root: Path, name: str, rows: int, initial: float
) -> None:
    matrix = load_matrix(repo_root / "runs" / name)
    assert matrix.reference is not None
    table = list(csv.DictReader(matrix.reference.open()))
    settings = matrix.runs[0].settings
    assert len(table) == rows
    assert {row["run"] for row in table} == {run.name for run in matrix.runs}
    assert all(int(row["step"]) % int(settings["val_every"]) == 0 for row in table)
    assert max(int(row["step"]) for row in table) == settings["steps"]
    assert {float(row["value"]) for row in table if row["step"] == "0"} == {initial}


def test_the_guess_among_the_published_numbers_is_marked(repo_root: Path) -> None:
    file = repo_root / "runs" / "00008-banded-tinystories" / "reference.csv"
    dense = [row for row in csv.DictReader(file.open()) if row["run"] == "dense"]
    assert [row["value"] for row in dense] == ["1.85"]
    assert "never measured" in dense[0]["note"]


def test_first_experiment_has_its_expectations_and_its_control(repo_root: Path) -> None:
    matrix = load_matrix(repo_root / "runs" / "00007-banded-sparsity")
    runs = {run.name: run for run in matrix.runs}
    cost, control = matrix.expectations
    assert (cost.run, cost.against, cost.low_percent, cost.high_percent) == (
        "fc1_bw256", "dense", 5, 10)  # fmt: skip
    assert (control.run, control.against) == ("random_bw256", "random_dense")
    assert runs["random_bw256"].data.prepare == "random"
    assert runs["random_bw256"].baseline == "random_dense"
    assert runs["fc1_bw256"].settings["mask_init"] == 1
