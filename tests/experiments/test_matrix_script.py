"""`pyllmc matrix script`: the commands without the runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from experiments.matrix_lab import CELLS, Lab

from pyllmc import cli

FOLDER = "runs/00009-banded-fc-comparison"


def test_run_all_is_what_the_command_prints(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo_root)
    printed = CliRunner().invoke(cli.main, ["matrix", "script", FOLDER]).stdout
    script = repo_root / FOLDER / "scripts" / "run_all.sh"
    assert script.read_text() == printed
    assert os.access(script, os.X_OK)


def test_run_all_trains_the_ten_runs_as_published(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs it for real, with programs that only write down how they were called."""
    for name in ("train", "pyllmc"):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/calls"\n')
        path.chmod(0o755)
    environment = {**os.environ, "TRAIN": str(tmp_path / "train"), "OUT": str(tmp_path / "o u t"),
                   "PYLLMC": str(tmp_path / "pyllmc")}  # fmt: skip
    script = repo_root / FOLDER / "scripts" / "run_all.sh"
    subprocess.run(["sh", str(script)], cwd=repo_root, env=environment, check=True)
    model, *runs = (tmp_path / "calls").read_text().splitlines()
    assert model.startswith(
        "pyllmc model init --channels 128 --layers 4 --heads 4 --context 256 --vocab 50257 "
        "--init original"
    )
    bands = [tuple(re.match(r"train -1 (\d+) -2 (\d+) ", run).groups()) for run in runs]
    widths = ("1024", "512", "256")
    assert bands == [("0", "0"), *[(w, "0") for w in widths], *[("0", w) for w in widths],
                     *[(w, w) for w in widths]]  # fmt: skip
    for run in runs:
        assert " -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 " in run
    assert f"-o {tmp_path}/o u t/logs/log_both_bw256.txt" in runs[-1]
    assert (tmp_path / "o u t" / "checkpoints").is_dir()


def test_script_and_runner_start_the_same_commands(lab: Lab) -> None:
    script = lab.root / "script.sh"
    script.write_text(lab.matrix("script", "exp").stdout)
    lab.run()
    recorded = [
        json.loads((lab.folder / "cells" / cell / "config.json").read_text())["command"][1:-2]
        for cell in CELLS
    ]
    spy = lab.root / "spy"
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> calls\n')
    spy.chmod(0o755)
    subprocess.run(["sh", str(script)], env={**os.environ, "TRAIN": "./spy"}, check=True)
    assert (lab.root / "calls").read_text().splitlines() == [" ".join(words) for words in recorded]


def test_script_goes_on_after_a_failure_and_says_so(lab: Lab) -> None:
    script = lab.root / "script.sh"
    script.write_text(lab.matrix("script", "exp").stdout)
    lab.plan(dense="fail")
    done = subprocess.run(["sh", str(script)], env={**os.environ, "TRAIN": str(lab.program)},
                          stderr=subprocess.PIPE)  # fmt: skip
    assert done.returncode == 1
    assert lab.starts() == CELLS
