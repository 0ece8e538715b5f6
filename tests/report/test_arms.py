"""From a matrix file with rates, patterns, shapes and per-layer bandwidths to the report's arms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pyllmc import _core
from pyllmc.cli.report import load_experiment
from pyllmc.experiments.matrix import Matrix, load_matrix
from pyllmc.report import axis_charts
from pyllmc.report.inputs import Arm
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.panels import groups, panels
from pyllmc.report.rates import tuning
from pyllmc.report.readme import family_of

MATRIX = """
schema = 1
title = "Rates and controls"
description = "Losses written for the tests."
baseline = "dense"
seeds = [1, 2]
[margin]
nats = 0.01
[data]
train = "t.bin"
val = "v.bin"
[model]
channels = 16
layers = 2
heads = 2
context = 32
vocab = 100
[train]
steps = 3
batch_size = 4
sequence_length = 32
val_every = 1
learning_rate = [3e-4, 1e-3]
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "band"
label = "Band"
fc1_bandwidth = 32
fc2_bandwidth = 32
[[run]]
name = "random"
fc1_bandwidth = 32
fc2_bandwidth = 32
pattern = "random"
mask_seed = 7
[[run]]
name = "layers"
fc1_bandwidth = [64, 32]
fc2_bandwidth = [0, 0]
[[run]]
name = "narrow"
[run.model]
hidden = 29
[[run]]
name = "low"
[run.model]
mlp_rank = 5
[[expectations]]
text = "The band costs nothing"
run = "band"
against = "dense"
high_percent = 1
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "matrix.toml").write_text(MATRIX)
    (tmp_path / "logs").mkdir()
    made = load_matrix(tmp_path)
    for cell in made.cells():
        log = made.log_path(cell.run, cell.seed)
        final = 2.0 + 0.1 * cell.seed + (0.05 if cell.run.arm == "random" else 0.0)
        log.write_text("".join(f"s:{s} tel:{final + 0.3 * (3 - s):.4f}\n" for s in range(4)))
        lines = [{"type": "settings", "steps": 3, "batch_size": 4, "sequence_length": 32}]
        lines += [
            {"type": "train", "step": s, "loss": final, "tokens_per_second": 128 / (0.1 * (s + 1))}
            for s in range(3)
        ]
        log.with_suffix(".jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return made


def arms(matrix: Matrix) -> dict[str, Arm]:
    return {arm.name: arm for arm in load_experiment(matrix).arms}


def test_every_rate_is_an_arm_with_the_baseline_of_its_rate(matrix: Matrix) -> None:
    found = arms(matrix)
    assert len(found) == 12
    assert found["band_lr3e-4"].baseline == "dense_lr3e-4"
    assert found["band_lr1e-3"].baseline == "dense_lr1e-3"
    made = load_experiment(matrix)
    assert (made.baseline, made.margin) == ("dense_lr3e-4", 0.01)
    assert (made.expectations[0].arm, made.expectations[0].against) == (
        "band_lr3e-4", "dense_lr3e-4",
    )  # fmt: skip


def test_kinds_of_mlp_and_their_weights(matrix: Matrix) -> None:
    found = arms(matrix)
    band = _core.Pattern.band(64, 16, 32).kept
    wide = _core.Pattern.band(64, 16, 64).kept
    kinds = {
        name: (arm.mlp.pattern, arm.mlp.mask_seed, arm.mlp.shape, arm.mlp.weights, arm.mlp.stored)
        for name, arm in found.items()
        if name.endswith("3e-4")
    }
    random = _core.Pattern.make("random", 64, 16, "rows", 32).kept
    random += _core.Pattern.make("random", 16, 64, "cols", 32).kept
    assert kinds == {
        "dense_lr3e-4": ("band", None, "", 4096, 4096),
        "band_lr3e-4": ("band", None, "", 4 * band, 4096),
        "random_lr3e-4": ("random", 7, "", 2 * random, 4096),
        "layers_lr3e-4": ("band", None, "", wide + band + 2 * 1024, 4096),
        "narrow_lr3e-4": ("band", None, "narrower", 4 * 29 * 16, 4 * 29 * 16),
        "low_lr3e-4": ("band", None, "low-rank", 4 * 5 * 80, 4 * 5 * 80),
    }
    assert found["layers_lr3e-4"].bands["fc1"].text == "64,32"
    assert not found["low_lr3e-4"].bands


def test_what_a_band_multiplies_is_its_pieces_where_that_pays(matrix: Matrix) -> None:
    found = arms(matrix)
    # C = 16, H = 64: a tile of 32 hidden units with the channels that one of them sees. Of a band
    # of 32 those are 0 to 11 and 4 to 15: 12 each, in two of a step's three products; in the third
    # the one panel of 16 channels sees all 64. A band of 64 reaches all 16 channels of both tiles:
    # it does not pay and is multiplied whole, as is every pattern that is no band.
    alone = (2 * 2 * 32 * 12 + 16 * 64) / 3
    assert {n: a.mlp.band_macs for n, a in found.items() if n.endswith("3e-4")} == {
        "dense_lr3e-4": 4096,
        "band_lr3e-4": 4 * alone,
        "random_lr3e-4": 4096,
        "layers_lr3e-4": pytest.approx(1024 + alone + 2 * 1024),
        "narrow_lr3e-4": 4 * 29 * 16,
        "low_lr3e-4": 4 * 5 * 80,
    }


@pytest.mark.parametrize(
    ("model", "shape"),
    [("hidden = 48", {"H": "48"}), ("mlp_rank = 4", {"r": "4"})],
    ids=["hidden", "mlp_rank"],
)
def test_an_experiment_on_another_mlp(
    tmp_path: Path, report: Callable[[Path], str], model: str, shape: dict[str, str]
) -> None:
    """Its weights are in pyllmc's own format, and H is not 4C."""
    rank = "rank" in model
    bands = "" if rank else "fc1_bandwidth = 24\nfc2_bandwidth = 24\n"
    head = MATRIX.split("[[run]]")[0].replace("vocab = 100", f"vocab = 100\n{model}")
    text = f'{head}[[run]]\nname = "dense"\n[[run]]\nname = "other"\n{bands}'
    (tmp_path / "matrix.toml").write_text(text.replace("[3e-4, 1e-3]", "3e-4"))
    (tmp_path / "logs").mkdir()
    made = load_matrix(tmp_path)
    for cell in made.cells():
        log = made.log_path(cell.run, cell.seed)
        log.write_text("".join(f"s:{s} tel:{2.0 + 0.3 * (3 - s):.4f}\n" for s in range(4)))
        settings = {"type": "settings", "steps": 3, "batch_size": 4, "sequence_length": 32}
        log.with_suffix(".jsonl").write_text(json.dumps(settings | {"execution": "band"}) + "\n")
    from_matrix = load_experiment(made)
    path = made.model_path(1)
    sizes = {"channels": 16, "layers": 2, "heads": 2, "context": 32, "vocab": 100}
    name, value = model.split(" = ")
    _core.init_checkpoint(str(path), **sizes, **{name: int(value)})
    found = load_experiment(made)
    assert found.architecture == from_matrix.architecture
    assert found.architecture_source == f"`{path.name}`"
    _, tensors = _core.read_model(str(path))
    assert found.architecture["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert not any(arm.mlp.shape for arm in found.arms)

    read = report(tmp_path)
    head, _, values = read.split("### Model")[1].splitlines()[4:7]
    named = dict(zip(cells(head), cells(values), strict=True))
    assert named.items() >= shape.items()
    assert named["C"] == "16"
    if not rank:
        # By hand: attention 4 C² + 33 C, the MLP 2 · 48 C of which the band keeps its share.
        kept = _core.Pattern.band(48, 16, 24).kept
        rest = 2 * (4 * 256 + 33 * 16) + 1600
        share = (rest + 4 * kept) / (rest + 4 * 48 * 16)
        assert "(H = 48)" in read
        assert f" {100 * share:.1f} % |" in read.split("### Densities")[1].split("##")[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_parameters_are_the_models_own(matrix: Matrix, tmp_path: Path) -> None:
    path = tmp_path / "fresh.bin"
    _core.init_checkpoint(str(path), channels=16, layers=2, heads=2, context=32, vocab=100)
    _, tensors = _core.read_checkpoint(str(path))
    parameters = load_experiment(matrix).architecture["parameters"]
    assert parameters == sum(tensor.size for tensor in tensors.values())


def test_seconds_add_up_the_steps(matrix: Matrix) -> None:
    trial = load_experiment(matrix).trials[0]
    assert trial.seconds == pytest.approx({1: 0.1, 2: 0.3, 3: 0.6})
    assert trial.alone is None


def test_a_runs_own_record_says_whether_it_was_alone_and_where(matrix: Matrix) -> None:
    cell = next(matrix.cells())
    folder = matrix.cell_dir(cell.run, cell.seed)
    folder.mkdir(parents=True)
    digest = hashlib.sha256(matrix.log_path(cell.run, cell.seed).read_bytes()).hexdigest()
    state = {"state": "done", "log_sha256": digest, "alone": True}
    (folder / "state.json").write_text(json.dumps(state))
    device = {"processor": "A processor", "cores": 2, "gpu": None}
    (folder / "config.json").write_text(json.dumps({"device": device}))
    trial = load_experiment(matrix).trials[0]
    assert (trial.alone, trial.machine) == (True, "A processor, 2 cores")
    device["gpu"] = {"name": "A GPU", "uuid": "x"}
    (folder / "config.json").write_text(json.dumps({"device": device}))
    assert load_experiment(matrix).trials[0].machine == "A GPU"


def test_the_report_of_it_all(matrix: Matrix, report: Callable[[Path], str]) -> None:
    text = report(matrix.folder)
    assert "### Against Dense, lr 1e-3" in text
    assert "## Learning rate" in text
    assert "| random | " in text.split("### Against Dense, lr 3e-4")[1]
    assert "Is the band better than random places at equal density? Band:" in text
    assert "| learning_rate: DIFFERS" in text
    assert "Two seeds are weak evidence" in text


def test_charts_against_something_else_than_steps(matrix: Matrix) -> None:
    for cell in matrix.cells():
        with matrix.log_path(cell.run, cell.seed).open("a") as log:
            log.write("".join(f"s:{s} tsb:{2.0 + 0.3 * (3 - s):.4f}\n" for s in range(4)))
    made = load_experiment(matrix)
    outcomes, group = Outcomes(made), groups(made)[0]
    panel = panels(group, made)[0]
    for chart in (
        axis_charts.difference_chart(group, family_of(group, outcomes)),
        axis_charts.rate_chart(tuning(made, outcomes), outcomes),
        axis_charts.fit_chart(panel, outcomes),
        axis_charts.cost_chart(group, outcomes),
    ):
        assert chart is not None
        assert chart["png"].startswith(b"\x89PNG")
        assert ElementTree.fromstring(chart["svg"].decode()).tag.endswith("svg")


def test_no_chart_without_what_it_shows(matrix: Matrix) -> None:
    made = load_experiment(matrix)
    outcomes, group = Outcomes(made), groups(made)[0]
    assert axis_charts.fit_chart(panels(group, made)[0], outcomes) is None
    assert axis_charts.rate_chart(None, outcomes) is None
    assert axis_charts.difference_chart(group, None) is None
