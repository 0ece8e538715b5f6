"""The runner with the real trainer."""

from __future__ import annotations

import fcntl
import re
import subprocess
from types import SimpleNamespace

import pytest
from experiments.matrix_lab import CELLS, Lab

from pyllmc.experiments import inputs
from pyllmc.experiments.settings import SETTINGS


def test_settings_are_the_programs_options_with_its_defaults(programs: SimpleNamespace) -> None:
    """A cell's identity fills in what a matrix file leaves out; the program must do the same."""
    help_text = subprocess.run([programs.train_banded, "--help"], capture_output=True, text=True,
                               check=True).stdout  # fmt: skip
    for setting in SETTINGS.values():
        option = "--" + setting.name.replace("_", "-")
        line = re.search(rf"^  (.*, )?{option} (?:N|X|NAME) .*\[(.+)\]$", help_text, re.MULTILINE)
        assert line, f"{option} is not an option"
        if setting.short:
            assert setting.short in line[0].split(option)[0]
        if setting.default is not None and not setting.required:
            assert setting.kind(line[2]) == setting.default, option


def test_two_cells_that_are_both_dense_repeat_each_other_bit_for_bit(
    lab: Lab, programs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_RANDOM_TOKENS", 4000)
    (lab.folder / "model.bin").unlink()
    lab.edit('train = "data/t_train.bin"', 'train = "data/random_train.bin"')
    lab.edit('val = "data/t_val.bin"', 'val = "data/random_val.bin"\nprepare = "random"')
    lab.edit("fc2_bandwidth = 16", "fc2_bandwidth = 62")  # 2 (4C - 1): keeps everything
    result = lab.matrix("run", "exp", "--program", str(programs.train_banded))
    assert result.exit_code == 0, result.output
    assert lab.states() == dict.fromkeys(CELLS, "done")

    def losses(cell: str) -> list[str]:
        return (lab.folder / "logs" / f"log_{cell}.txt").read_text().splitlines()

    assert [line.split(" ")[0] for line in losses("dense") if "tel" in line] == [
        "s:0", "s:3", "s:6"]  # fmt: skip
    assert len(losses("dense")) == 9
    assert losses("fc2_bw16") == losses("dense")
    assert losses("fc1_bw16") != losses("dense")
    again = lab.matrix("run", "exp", "--program", str(programs.train_banded))
    assert again.stdout.count("before") == 3


def test_cell_whose_checkpoint_another_program_holds_fails_and_says_so(
    lab: Lab, programs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody runs a line of `matrix script` by hand at the same time."""
    monkeypatch.setattr(inputs, "_RANDOM_TOKENS", 4000)
    (lab.folder / "model.bin").unlink()
    lab.edit('train = "data/t_train.bin"', 'train = "data/random_train.bin"')
    lab.edit('val = "data/t_val.bin"', 'val = "data/random_val.bin"\nprepare = "random"')
    words = ("run", "exp", "--program", str(programs.train_banded))
    (lab.folder / "checkpoints").mkdir()
    with open(lab.folder / "checkpoints" / ".ckpt_dense.lock", "w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert lab.matrix(*words).exit_code == 1
    assert lab.states() == {"dense": "failed", "fc1_bw16": "done", "fc2_bw16": "done"}
    assert lab.state("dense")["exit_code"] == 2
    assert "ckpt_dense.bin is in use by another program" in lab.state("dense")["message"]
    assert lab.matrix(*words, "--retry-failed").exit_code == 0
    assert lab.state("dense")["state"] == "done"


def test_bad_input_of_the_program_is_the_cells_failure(lab: Lab, programs: SimpleNamespace) -> None:
    result = lab.matrix("run", "exp", "--program", str(programs.train_banded), "--only", "dense")
    assert result.exit_code == 1
    assert lab.state("dense")["exit_code"] == 4
    assert "data/t_val.bin has 3 bytes" in lab.state("dense")["message"]
