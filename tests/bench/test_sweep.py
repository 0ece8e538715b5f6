"""`pyllmc bench sweep --quick`: its files, and that finished parts are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyllmc import cli
from pyllmc.bench import machine


@pytest.fixture(autouse=True)
def _small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "_SECONDS", 0.002)


def sweep(out: Path) -> Result:
    command = ["bench", "sweep", "--quick", "--threads", "1", "--out", str(out)]
    return CliRunner().invoke(cli.main, command, prog_name="pyllmc")


def test_sweep_writes_tables_and_plots_and_goes_on_where_it_was(tmp_path: Path) -> None:
    done = sweep(tmp_path)
    assert done.exit_code == 0, done.stderr
    written = [tmp_path / f"sweep.{ending}" for ending in ("md", "json", "png", "svg")]
    assert done.stdout.split() == [str(path) for path in written]
    assert all(path.stat().st_size for path in written)

    found = json.loads((tmp_path / "sweep.json").read_text())
    assert set(found["parts"]) == {
        "bandwidth_C32_fp32",
        "bandwidth_C64_fp32",
        *(f"scaling_{axis}_fp32" for axis in "BTCL"),
    }
    assert set(found["slopes"]) == {f"scaling_{axis}_fp32" for axis in "BTCL"}
    dense, *bands = found["parts"]["bandwidth_C64_fp32"]["rows"]
    assert dense["density"] == dense["mlp_share_of_dense"] == 1
    assert [row["shape"]["fc1_bandwidth"] for row in bands] == [8, 16, 32, 64, 128, 256]
    assert [row["density"] for row in bands] == sorted(row["density"] for row in bands)
    text = (tmp_path / "sweep.md").read_text()
    assert "## C = 64, fp32" in text
    assert "## Scaling with L, fp32: log-log slope" in text

    # Measured again: a part that is missing, and one of another program.
    parts = tmp_path / "parts"
    kept, stale = parts / "bandwidth_C32_fp32.json", parts / "scaling_L_fp32.json"
    before = kept.read_bytes()
    (parts / "scaling_B_fp32.json").unlink()
    record = json.loads(stale.read_text())
    stale.write_text(json.dumps({**record, "program_sha256": "another"}))
    again = sweep(tmp_path)
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("is up to date.") == 4
    assert kept.read_bytes() == before
    assert json.loads(stale.read_text())["program_sha256"] == record["program_sha256"]
