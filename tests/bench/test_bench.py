"""`pyllmc bench`: what it prints, at sizes where the figures mean nothing."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyllmc import _core, cli
from pyllmc.bench import step
from pyllmc.bench.data import SEPARATOR, stories_text
from pyllmc.bench.machine import Peak
from pyllmc.bench.rounds import Contestant, compete, result
from pyllmc.bench.step import StepShape
from pyllmc.bench.sweep import slope
from pyllmc.models.shape import band_macs

STEP = (
    *("step", "--channels", "32", "--layers", "1", "--heads", "2", "--vocab", "300"),
    *("--batch-size", "2", "--sequence-length", "16", "--steps", "1", "--threads", "1"),
)
LINEAR = ("linear", "--tokens", "40", "--channels", "32", "--calls", "1", "--threads", "1")
LOSS = ("loss", "--tokens", "40", "--channels", "32", "--vocab", "300", "--calls", "1")
GENERATE = (
    *("generate", "--channels", "32", "--layers", "1", "--heads", "2", "--vocab", "300"),
    *("--context", "16", "--tokens", "4"),
)
DATA = ("data", "--tokenizer", "ministories", "--megabytes", "0.05")


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.main, ["bench", *args, "--repeats", "2"], prog_name="pyllmc")


def measured(*args: str) -> dict[str, Any]:
    done = invoke(*args, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (STEP, ["dense fp32"]),
        (
            (*STEP, "-1", "32", "--execution", "band", "--execution", "mask"),
            ["dense fp32", "band fp32", "mask fp32"],
        ),
        (
            (*LINEAR, "--bandwidths", "16", "--precision", "bf16", "--layer", "fc2"),
            ["fc2 dense bf16", "fc2 band 16 bf16"],
        ),
        (
            (*LOSS, "--precision", "fp32", "--precision", "bf16"),
            ["head and loss fp32", "head and loss bf16"],
        ),
        (
            (*GENERATE, "--precision", "fp32", "--precision", "bf16"),
            ["generate fp32", "reading fp32 weights", "generate bf16", "reading bf16 weights"],
        ),
        (DATA, ["pyllmc data prepare text", "tiktoken encode_ordinary_batch"]),
    ],
    ids=["step", "step-bands", "linear", "loss", "generate", "data"],
)
def test_json_holds_machine_peak_and_a_time_for_each_round(
    command: tuple[str, ...], rows: list[str]
) -> None:
    found = measured(*command)
    assert [row["name"] for row in found["rows"]] == rows
    assert {"date", "commit", "processor", "program_sha256", "settings"} <= set(found)
    assert platform.release() not in found["versions"]["system"]
    assert found["peak"]["copy_gb_per_second"] > 0
    for row in found["rows"]:
        assert len(row["seconds"]) == 2
        assert row["median_s"] == statistics.median(row["seconds"])
        assert row["copy_fraction"] == pytest.approx(
            row["gigabytes"] / row["median_s"] / found["peak"]["copy_gb_per_second"]
        )
        if "gflop" in row:
            peak = found["peak"]["gflop_per_second"][row["precision"]]
            assert row["fma_fraction"] == pytest.approx(row["gflop"] / row["median_s"] / peak)


def test_table_names_the_peak_and_every_row() -> None:
    done = invoke(*LINEAR, "--bandwidths", "16,32", "--layer", "fc1")
    assert done.exit_code == 0, done.stderr
    assert "peak with 1 thread: " in done.stdout
    assert "of FMA peak" in done.stdout
    for name in ("fc1 dense fp32", "fc1 band 16 fp32", "fc1 band 32 fp32"):
        assert f"\n{name}" in done.stdout


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    ours, theirs = iter([1.0, 9.0, 2.0]), iter([2.0, 3.0, 4.0])
    contestants = [
        Contestant("ours", lambda: next(ours), flop=6e9, against=("theirs",)),
        Contestant("theirs", lambda: next(theirs)),
    ]
    peak = Peak(1)
    compete(contestants, 3, peak, "test")
    row, _ = result("test", {}, contestants, peak)["rows"]
    assert row["ratios"] == {"theirs": 0.5}  # of 0.5, 3, 0.5: the medians' ratio would be 0.667
    assert row["gflop_per_second"] == pytest.approx(3)
    assert row["fma_fraction"] == pytest.approx(3e9 / peak.flops("fp32"))


def test_contestants_run_in_turn() -> None:
    order: list[str] = []
    contestants = [
        Contestant(name, lambda name=name: float(order.append(name) is None)) for name in "ab"
    ]
    compete(contestants, 3, Peak(1), "test")
    assert "".join(order) == "ababab"


def test_work_of_a_step_follows_from_its_sizes() -> None:
    shape = StepShape(64, 2, 2, 1000, 3, 10)
    weights = 2 * 12 * 64 * 64 + 1000 * 64
    assert shape.flop("mask") == 30 * 6 * (weights + 2 * 11 * 64)
    assert shape.flop("mask") == shape.flop("band")


def test_band_stores_its_tiles_and_executes_its_pieces_alone() -> None:
    shape = StepShape(128, 1, 2, 1000, 1, 8, fc1_bandwidth=64, fc2_bandwidth=64)
    pattern = _core.Pattern.band(512, 128, 64)
    assert pattern.pays
    assert pattern.kept < pattern.tile_floats < 0.3 * pattern.total
    assert shape.mlp_floats("band") == 2 * pattern.tile_floats
    saved = 2 * (pattern.total - band_macs("fc1", pattern))
    assert shape.flop("mask") - shape.flop("band") == pytest.approx(8 * 6 * saved)


def test_step_memory_is_the_programs_own() -> None:
    ballast = bytearray(300 << 20)
    (row,) = measured(*STEP)["rows"]
    assert len(ballast) > row["peak_memory"] > 1 << 20


def test_peer_without_torch_is_refused_with_what_to_do(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    done = invoke(*LOSS, "--peer", "torch", "--peer-python", str(python))
    assert done.exit_code == 2
    assert f"{python} cannot import torch: install PyTorch there" in done.stderr


def test_peer_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ntest "$1" = -c && exit 0\necho no kernel >&2\nexit 3\n')
    python.chmod(0o755)
    done = invoke(*LOSS, "--peer", "torch", "--peer-python", str(python))
    assert done.exit_code == 1
    assert f"the PyTorch peer ({python}) failed: no kernel" in done.stderr


# Answers as the peer script does, without torch.
FAKE_PEER = """\
import json, sys
if sys.argv[1] == "-c":
    sys.exit()
for line in sys.stdin:
    request = json.loads(line)
    answer = {"id": 0, "torch": "9"} if request["do"] == "prepare" else {}
    print(json.dumps({"seconds": 2.0, "peak_memory": 7, **answer}), flush=True)
"""


def test_peers_are_rows_that_ours_are_held_against(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{FAKE_PEER}")
    python.chmod(0o755)
    rows = measured(*STEP, "--peer", "torch", "--peer-python", str(python))["rows"]
    assert [row["name"] for row in rows] == [
        "torch eager fp32",
        "torch compiled fp32",
        "dense fp32",
    ]
    assert rows[0]["peak_memory"] == 7
    ours = rows[2]
    assert set(ours["ratios"]) == {"torch eager fp32", "torch compiled fp32"}
    assert ours["ratios"]["torch eager fp32"] == pytest.approx(ours["median_s"] / 2)


@pytest.mark.parametrize(
    "command",
    [
        STEP,
        (*LINEAR, "--layer", "fc1", "--bandwidths", "16", "--precision", "bf16"),
    ],
    ids=["step", "linear"],
)
def test_peer_script_trains_in_torch(command: tuple[str, ...]) -> None:
    """PYLLMC_TORCH_PYTHON names an interpreter that can import torch; else this one must."""
    python = os.environ.get("PYLLMC_TORCH_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip(f"{python} cannot import torch (PYLLMC_TORCH_PYTHON names another)")
    rows = measured(*command, "--peer", "torch", "--peer-python", python)["rows"]
    theirs = [row for row in rows if row["name"].startswith("torch")]
    assert theirs
    assert all(row["torch"] and row["median_s"] > 0 for row in theirs)
    assert all(row["ratios"] for row in rows if row not in theirs)


def test_sizes_that_cannot_work_are_refused() -> None:
    for wrong in ("0", "-8", "x"):
        assert invoke(*LINEAR, "--bandwidths", wrong).exit_code == 2
    assert invoke("data", "no_such_file.txt", "--tokenizer", "ministories").exit_code == 4


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("step", "--vocab", "65537"), "65537 is not in the range 1<=x<=65536"),
        ((*LINEAR, "--bandwidths", "16,254"), "a band of 254 leaves nothing out"),
        ((*LINEAR, "--bandwidths", "16,254", "--execution", "mask"), "give smaller --bandwidths"),
        (("sweep", "--out", "x", "--channels", "64,a"), "Invalid value for '--channels'"),
        (("linear", "--bandwidths", "0"), "'0' is no list of numbers above 0, such as 256,512"),
    ],
    ids=["vocab", "band", "mask", "channels", "bandwidths"],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    command: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyllmc.bench.rounds.compete", None)
    done = invoke(*command)
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_bands_of_linear_follow_the_width() -> None:
    found = measured(*LINEAR, "--layer", "fc1")
    assert found["settings"]["bandwidths"] == [16, 32]


@pytest.mark.parametrize(
    ("script", "exit_code", "said"),
    [
        (
            "echo first >&2; echo no such file >&2; exit 4",
            4,
            "ended with exit code 4: no such file",
        ),
        ("exit 7", 1, "ended with exit code 7\n"),
        ("kill -9 $$", 1, "was ended by SIGKILL, as the system does when memory runs out\n"),
    ],
    ids=["exit-code", "unknown-code", "signal"],
)
def test_a_program_that_fails_is_told_with_code_and_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, exit_code: int, said: str
) -> None:
    program = tmp_path / "train_banded"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(step, "train_banded_path", lambda: program)
    done = invoke(*STEP)
    assert done.exit_code == exit_code
    assert f"pyllmc: train_banded {said}" in done.stderr


def test_fma_peak_adds_up_threads_and_names_its_instructions() -> None:
    found = _core.bench.fma_peak(1, 0.01, "fp32")
    assert found["gflops"] > 0.1
    assert found["isa"] in ("avx512", "avx2", "plain")


def test_copy_counts_bytes_read_and_written() -> None:
    assert _core.bench.copy_bandwidth(1, 1 << 20)["bytes"] == 2 << 20
    assert _core.bench.read_bandwidth(1, 1 << 20)["bytes"] == 1 << 20


def test_built_in_text_has_the_size_asked_for() -> None:
    text = stories_text(0.05)
    assert 0.05e6 <= len(text) < 0.06e6
    assert text.count(SEPARATOR) > 10


def test_slope_is_the_exponent() -> None:
    rows = [{"name": f"T={size}", "median_s": 0.5 * size**1.5} for size in (4, 8, 32)]
    assert slope({"rows": rows}, "median_s") == pytest.approx(1.5)
