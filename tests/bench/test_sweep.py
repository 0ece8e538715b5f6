"""`pyllmc bench sweep --quick`: its files, and that finished parts are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyllmc import cli
from pyllmc.bench import sweep
from pyllmc.bench.step import StepShape


def run(out: Path, *more: str) -> Result:
    command = ["bench", "sweep", "--quick", "--threads", "1", "--out", str(out), *more]
    return CliRunner().invoke(cli.main, command, prog_name="pyllmc")


def test_sweep_writes_tables_and_plots_and_goes_on_where_it_was(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith("part 1 of 6, bandwidth_C32_fp32: about 0:")
    names = ("sweep.md", "sweep.json", "bandwidth.png", "bandwidth.svg", "scaling.png")
    written = [tmp_path / name for name in (*names, "scaling.svg")]
    assert done.stdout.split() == [str(path) for path in written]
    assert set(tmp_path.iterdir()) == set(written)
    assert all(path.stat().st_size for path in written)

    store = tmp_path / "sweep.json"
    found = json.loads(store.read_text())
    scaling = {f"scaling_{axis}_fp32" for axis in "BTCL"}
    assert set(found["parts"]) == {"bandwidth_C32_fp32", "bandwidth_C64_fp32", *scaling}
    assert {name: set(slopes) for name, slopes in found["slopes"].items()} == {
        name: {"step", "arithmetic"} for name in scaling
    }
    dense, *bands = found["parts"]["bandwidth_C64_fp32"]["rows"]
    assert dense["density"] == dense["mlp_share_of_dense"] == 1
    assert [row["shape"]["fc1_bandwidth"] for row in bands] == [8, 16, 32, 64, 128, 256, 384]
    assert [row["density"] for row in bands] == sorted(row["density"] for row in bands)
    # The widest band saves too little: it is stored and multiplied whole.
    assert bands[-1]["density"] < 1 == bands[-1]["mlp_share_of_dense"]
    text = (tmp_path / "sweep.md").read_text()
    assert "## C = 64, fp32" in text
    assert "## Scaling with L, fp32: log-log slope" in text

    # Measured again: a part that an interrupted sweep lacks, and one of another program.
    before = json.loads(store.read_text())
    before["parts"]["scaling_B_fp32"] = None
    before["parts"]["scaling_L_fp32"]["program_sha256"] = "another"
    store.write_text(json.dumps(before))
    again = run(tmp_path)
    assert again.exit_code == 0, again.stderr
    assert "holds 4 of 6 parts" in again.stderr
    assert "part 1 of 2, scaling_B_fp32" in again.stderr
    after = json.loads(store.read_text())
    kept = set(found["parts"]) - {"scaling_B_fp32", "scaling_L_fp32"}
    assert all(after["parts"][name] == found["parts"][name] for name in kept)
    assert list(after["parts"]) == list(found["parts"])
    program = found["parts"]["scaling_L_fp32"]["program_sha256"]
    assert after["parts"]["scaling_L_fp32"]["program_sha256"] == program

    # What took long to measure is not replaced by a sweep of something else.
    other = run(tmp_path, "--precision", "bf16")
    assert other.exit_code == 2
    assert f"{store} holds a sweep with other settings" in other.stderr
    assert json.loads(store.read_text()) == after


def test_an_interrupted_sweep_has_kept_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = sweep.Part.measure

    def interrupted(part: sweep.Part, *args: Any) -> dict[str, Any]:
        if part.name == "scaling_T_fp32":
            raise KeyboardInterrupt
        return measure(part, *args)

    monkeypatch.setattr(sweep.Part, "measure", interrupted)
    assert run(tmp_path).exit_code == 130
    parts = json.loads((tmp_path / "sweep.json").read_text())["parts"]
    assert [name for name, part in parts.items() if part] == [
        "bandwidth_C32_fp32",
        "bandwidth_C64_fp32",
        "scaling_B_fp32",
    ]
    monkeypatch.setattr(sweep.Part, "measure", measure)
    again = run(tmp_path)
    assert again.exit_code == 0, again.stderr
    assert "holds 3 of 6 parts" in again.stderr


def test_any_width_has_heads_that_divide_it() -> None:
    plan = sweep.Sweep((4, 200), 1, 256, 1, 8, ("fp32",), 1, 1, 1)
    for part in plan._parts():
        for shape in part.shapes.values():
            assert shape.channels % shape.heads == 0
    narrow = plan._parts()[0].shapes
    assert list(narrow) == ["dense", "1", "2", "4", "8", "16", "24"]


def test_small_steps_are_timed_more_often_and_alike_with_a_band() -> None:
    small = StepShape(64, 1, 2, 256, 1, 64)
    large = StepShape(1024, 8, 16, 4096, 16, 256)
    band = StepShape(64, 1, 2, 256, 1, 64, fc1_bandwidth=8, fc2_bandwidth=8)
    part = sweep.Part("x", {"dense": small, "8": band}, "fp32", 3, 1, 5)
    assert part.timed(large) == 3
    assert part.timed(small) == part.timed(band) == 20
