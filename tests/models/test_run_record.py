"""What a model file says of the run that made it goes with the weights; nothing is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle.inputs import Shape, write_model, write_tokens

from pyllmc._core import Model, Trainer, init_checkpoint, read_checkpoint, read_model_header
from pyllmc._core import write_checkpoint as write

SHAPE = Shape(B=1, T=4, C=8, L=1, NH=2, V=20, Vp=24, max_T=8)
RUN = {"step": 7, "init_seed": 3, "data_seed": 5}


def run_of(path: Path) -> dict[str, Any]:
    header = read_model_header(path)
    return {key: header[key] for key in (*RUN, "has_meta")}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file as llm.c writes it."""
    write_model(tmp_path / "plain.bin", SHAPE)
    return tmp_path / "plain.bin"


@pytest.fixture
def recorded(plain: Path) -> Path:
    header, tensors = read_checkpoint(plain)
    path = plain.with_name("recorded.bin")
    write(path, header | RUN | {"has_meta": True, "fc1_bandwidth": 8}, tensors)
    return path


def trainer_of(model: Path, **settings: Any) -> Trainer:
    write_tokens(model.with_name("train.bin"), range(9))
    data = model.with_name("train.bin")
    return Trainer(model, data, batch_size=1, sequence_length=4, data_seed=11, **settings)


@pytest.mark.parametrize("pattern", ["band", "random"])  # one for each kind of file
def test_a_model_keeps_its_files_record(pattern: str, recorded: Path) -> None:
    saved = recorded.with_name("saved.bin")
    Model(recorded, pattern=pattern).save(saved)
    assert run_of(saved) == RUN | {"has_meta": True}
    assert read_model_header(saved)["llmc"] is (pattern == "band")
    Model(saved).save(saved, step=9)
    assert run_of(saved) == RUN | {"has_meta": True, "step": 9}


def test_unknown_seeds_of_a_dense_model_stay_unknown(plain: Path) -> None:
    saved = plain.with_name("saved.bin")
    Model(plain).save(saved, 4)
    assert run_of(saved) == {"step": 4, "init_seed": 0, "data_seed": 0, "has_meta": False}
    assert saved.read_bytes()[36:] == plain.read_bytes()[36:]  # all but the step's slot


def test_a_bandwidth_is_recorded_without_seeds(plain: Path) -> None:
    saved = plain.with_name("saved.bin")
    Model(plain, fc2_bandwidth=8).save(saved)
    assert run_of(saved) == {"step": 0, "init_seed": 0, "data_seed": 0, "has_meta": True}
    assert read_model_header(saved)["fc2_bandwidth"] == [8]


def test_a_trainer_records_its_own_run_and_the_models_seed(recorded: Path) -> None:
    trainer = trainer_of(recorded)
    for _ in range(2):
        trainer.step()
    saved = recorded.with_name("saved.bin")
    trainer.save(saved)
    assert run_of(saved) == {"step": 2, "init_seed": 3, "data_seed": 11, "has_meta": True}


def test_a_trainer_of_a_plain_file_makes_up_no_init_seed(plain: Path) -> None:
    saved = plain.with_name("saved.bin")
    trainer_of(plain).save(saved)
    assert run_of(saved) == {"step": 0, "init_seed": 0, "data_seed": 11, "has_meta": True}


def test_initial_weights_record_their_seed(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    init_checkpoint(path, 8, 1, 2, 8, 20, seed=42)
    assert run_of(path) == {"step": 0, "init_seed": 42, "data_seed": 0, "has_meta": True}
