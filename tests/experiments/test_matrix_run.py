"""`pyllmc matrix run`: what runs, what does not, and what is said about it."""

from __future__ import annotations

import json
import os

import pytest
from experiments.matrix_lab import CELLS, Lab, write_model

from pyllmc.experiments.state import runner_process


def test_every_cell_runs_once_and_leaves_its_record(lab: Lab) -> None:
    result = lab.run()
    assert result.exit_code == 0, result.output
    assert lab.starts() == CELLS
    assert lab.states() == dict.fromkeys(CELLS, "done")
    for cell in CELLS:
        assert (lab.folder / "logs" / f"log_{cell}.txt").read_text().endswith("s:6 tel:4.4000\n")
        assert (lab.folder / "checkpoints" / f"ckpt_{cell}.bin").exists()
        assert (lab.folder / "cells" / cell / "attempts" / "1" / "stdout.txt").exists()
    record = json.loads((lab.folder / "cells" / "fc1_bw16" / "config.json").read_text())
    assert record["configuration"]["settings"]["fc1_bandwidth"] == 16
    assert record["configuration"]["settings"]["learning_rate"] == 3e-4
    assert record["identity"] == lab.state("fc1_bw16")["identity"]
    assert record["command"][:5] == [str(lab.program), "-1", "16", "-2", "0"]
    assert {"versions", "git", "host", "device", "program_sha256"} <= set(record)
    assert record["device"]["cores"] > 0
    assert record["environment"] == {"OMP_WAIT_POLICY": "passive"}
    attempt = lab.folder / "cells" / "fc1_bw16" / "attempts" / "1"
    assert json.loads((attempt / "config.json").read_text()) == record
    assert json.loads((attempt / "state.json").read_text()) == lab.state("fc1_bw16")
    assert (attempt / "uncommitted.patch").exists() == bool(record["git"]["dirty"])
    assert "next: pyllmc report exp" in result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        [cell, "done"] for cell in CELLS
    ]


def test_finished_cells_are_skipped(lab: Lab) -> None:
    lab.run()
    result = lab.run("--threads-per-job", "3")
    assert result.exit_code == 0
    assert lab.starts() == CELLS
    assert result.stdout.count("before") == 3
    assert "4.4000" in result.stdout


def test_changed_configuration_is_refused_with_the_difference(lab: Lab) -> None:
    lab.run()
    result = lab.run("--set", "steps=9")
    assert result.exit_code == 2
    assert "settings steps: 6 -> 9" in result.stderr
    assert "--rerun-changed" in result.stderr
    assert lab.starts() == CELLS
    assert lab.run("--set", "steps=9", "--rerun-changed").exit_code == 0
    assert lab.starts() == CELLS * 2
    assert lab.state("dense")["step"] == 9
    assert lab.state("dense")["attempt"] == 2


def test_only_the_cell_that_changed_is_refused(lab: Lab) -> None:
    lab.run()
    lab.edit("fc2_bandwidth = 16", "fc2_bandwidth = 18")
    result = lab.run()
    assert result.exit_code == 2
    assert "fc2_bw16 (changed: settings fc2_bandwidth: 16 -> 18)" in result.stderr
    assert "dense" not in result.stderr
    lab.run("--rerun-changed")
    assert lab.starts() == [*CELLS, "fc2_bw16"]


def test_changed_data_are_a_changed_configuration(lab: Lab) -> None:
    lab.run()
    (lab.root / "data" / "t_train.bin").write_bytes(b"other")
    result = lab.run()
    assert result.exit_code == 2
    assert "changed: data train: " in result.stderr


def test_other_initial_weights_are_a_changed_configuration(lab: Lab) -> None:
    lab.run()
    write_model(lab.folder / "model.bin", seed=5)
    result = lab.run()
    assert result.exit_code == 2
    assert "changed: model sha256: " in result.stderr


def test_what_cannot_change_the_numbers_is_not_a_change(lab: Lab) -> None:
    lab.run()
    lab.edit('title = "Two bands"', 'title = "Bands"')
    lab.edit("steps = 6", "steps = 6\nlearning_rate = 3e-4\nsample_every = 5\nthreads = 2")
    assert lab.run("--jobs", "2").exit_code == 0
    assert lab.starts() == CELLS


def test_failure_stops_no_other_and_is_retried_when_asked(lab: Lab) -> None:
    lab.plan(dense="fail")
    result = lab.run()
    assert result.exit_code == 1
    assert lab.states() == {"dense": "failed", "fc1_bw16": "done", "fc2_bw16": "done"}
    assert "dense failed: fake_train: the disk is on fire" in result.stderr
    assert "cells/dense/attempts/1/stderr.txt" in result.stderr
    assert "next:" not in result.stderr
    lab.plan()
    again = lab.run()
    assert again.exit_code == 1
    assert "dense skipped: failed (fake_train: the disk is on fire); --retry-failed" in again.stderr
    assert lab.starts() == CELLS
    assert lab.run("--retry-failed").exit_code == 0
    assert lab.starts() == [*CELLS, "dense"]
    assert lab.state("dense")["attempt"] == 2


def test_fail_fast_starts_nothing_more(lab: Lab) -> None:
    lab.plan(dense="fail")
    result = lab.run("--fail-fast")
    assert result.exit_code == 1
    assert "stopping because of --fail-fast" in result.stderr
    assert lab.starts() == ["dense"]
    assert lab.states() == {"dense": "failed", "fc1_bw16": "queued", "fc2_bw16": "queued"}


@pytest.mark.parametrize(
    ("fate", "sentence"),
    [
        ("lie", "the program reported success, but"),
        ("other", "the program ran with learning_rate 9.0, not 0.0003 as asked"),
        ("kill", "ended by SIGKILL"),
    ],
)
def test_what_did_not_end_as_asked_is_failed(lab: Lab, fate: str, sentence: str) -> None:
    lab.plan(dense=fate)
    assert lab.run("--only", "dense").exit_code == 1
    state = lab.state("dense")
    assert state["state"] == "failed"
    assert sentence in state["message"]


def test_diverged_run_is_a_result_and_is_named(lab: Lab) -> None:
    lab.plan(dense="diverge")
    result = lab.run()
    assert result.exit_code == 0
    assert "dense diverged: fake_train: loss is nan at step 2" in result.stderr
    assert lab.state("dense")["state"] == "diverged"
    lab.run()
    assert lab.starts() == CELLS


def test_program_that_cannot_start_fails_its_cells(lab: Lab) -> None:
    lab.program.chmod(0o644)
    result = lab.run()
    assert result.exit_code == 1
    assert lab.states() == dict.fromkeys(CELLS, "failed")
    assert f"could not be started: {lab.program}: Permission denied" in result.stderr


@pytest.mark.parametrize("gone", ["process", "boot"])
def test_running_cell_without_its_runner_is_stale_and_resumed(lab: Lab, gone: str) -> None:
    lab.run()
    state = lab.state("dense")
    state |= {"state": "running", **runner_process()}
    state |= {"boot_id": "x"} if gone == "boot" else {"runner_start": 1}
    (lab.folder / "cells" / "dense" / "state.json").write_text(json.dumps(state))
    status = json.loads(lab.matrix("status", "exp", "--json").stdout)
    assert status["cells"][0]["state"] == "stale"
    assert "is gone; `matrix run` goes on with it" in status["cells"][0]["message"]
    assert "its runner is gone; attempt 2 from its last checkpoint" in lab.run("--dry-run").stdout
    assert lab.run().exit_code == 0
    assert lab.starts() == [*CELLS, "dense"]
    record = json.loads((lab.folder / "cells" / "dense" / "config.json").read_text())
    assert record["command"][-1] == "--resume"
    before = lab.folder / "cells" / "dense" / "attempts" / "1" / "state.json"
    assert json.loads(before.read_text())["state"] == "preempted"


def test_running_cell_with_its_runner_is_left_alone(lab: Lab) -> None:
    lab.run()
    state = lab.state("dense") | {"state": "running"} | runner_process()
    (lab.folder / "cells" / "dense" / "state.json").write_text(json.dumps(state))
    result = lab.run()
    assert result.exit_code == 75
    assert f"dense: left alone, being run by process {os.getpid()}" in result.stderr
    assert lab.starts() == CELLS


def test_log_that_nobody_recorded_is_not_overwritten(lab: Lab) -> None:
    log = lab.folder / "logs" / "log_dense.txt"
    log.parent.mkdir()
    log.write_text("s:0 tel:1.0000\n")
    result = lab.run()
    assert result.exit_code == 2
    assert "nothing records how it was made" in result.stderr
    assert log.read_text() == "s:0 tel:1.0000\n"


def test_log_that_was_changed_afterwards_is_no_result(lab: Lab) -> None:
    lab.run()
    log = lab.folder / "logs" / "log_dense.txt"
    log.write_text(log.read_text() + "s:6 tel:0.0001\n")
    result = lab.run()
    assert result.exit_code == 2
    assert "log_dense.txt was written to after the run had ended" in result.stderr
    log.unlink()
    assert lab.run().exit_code == 0
    assert lab.starts() == [*CELLS, "dense"]


def test_only_runs_what_matches(lab: Lab) -> None:
    assert lab.run("--only", "fc?_*").exit_code == 0
    assert lab.starts() == ["fc1_bw16", "fc2_bw16"]
    result = lab.run("--only", "fc3*")
    assert result.exit_code == 2
    assert "'fc3*' matches no cell; the cells are dense, fc1_bw16, fc2_bw16" in result.stderr


def test_set_reaches_the_program(lab: Lab) -> None:
    assert (
        lab.run("--only", "dense", "--set", "train.steps=3", "--set", "batch_size=1").exit_code == 0
    )
    command = json.loads((lab.folder / "cells" / "dense" / "config.json").read_text())["command"]
    assert command[command.index("-n") + 1] == "3"
    assert command[command.index("-b") + 1] == "1"


def test_out_moves_every_result(lab: Lab) -> None:
    (lab.root / "other").mkdir()
    write_model(lab.root / "other" / "model.bin")
    result = lab.run("--out", "other")
    assert result.exit_code == 0
    assert sorted(path.name for path in lab.folder.iterdir()) == ["matrix.toml", "model.bin"]
    assert (lab.root / "other" / "logs" / "log_dense.txt").exists()
    assert "next: pyllmc report exp --out other" in result.stderr


def test_dry_run_prints_each_cell_with_reason_and_command(lab: Lab) -> None:
    lab.plan(fc2_bw16="fail")
    lab.run("--only", "fc*")
    result = lab.run("--dry-run", "--threads-per-job", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["cell", "state", "action", "reason"]
    assert lines[1].split(maxsplit=3) == ["dense", "-", "run", "not run yet"]
    assert lines[2].strip() == (
        f"{lab.program} -1 0 -2 0 -e exp/model.bin -c exp/checkpoints/ckpt_dense.bin "
        "-i data/t_train.bin -j data/t_val.bin -n 6 -b 2 -t 16 -v 3 -o exp/logs/log_dense.txt "
        "--threads 1"
    )
    assert lines[3].split()[:3] == ["fc1_bw16", "done", "skip"]
    assert lines[3].endswith("done with the same configuration")
    assert lines[5].split()[:3] == ["fc2_bw16", "failed", "skip"]
    assert lines[5].endswith(
        "failed (fake_train: the disk is on fire); --retry-failed runs it again"
    )
    retried = lab.run("--dry-run", "--retry-failed").stdout
    assert "run     failed (fake_train: the disk is on fire); attempt 2" in retried
    changed = lab.run("--dry-run", "--set", "steps=7").stdout
    assert "fc1_bw16  done    refuse  changed: settings steps: 6 -> 7" in changed
    assert lab.starts() == ["fc1_bw16", "fc2_bw16"]


def test_two_jobs_run_side_by_side(lab: Lab) -> None:
    lab.plan(dense="slow", fc1_bw16="slow")
    assert lab.run("--jobs", "2", "--set", "steps=3").exit_code == 0
    (first_start, first_end), (second_start, second_end) = lab.times("dense"), lab.times("fc1_bw16")
    assert max(first_start, second_start) < min(first_end, second_end)
    third_start, _ = lab.times("fc2_bw16")
    assert third_start > min(first_end, second_end)


def test_missing_data_are_named_before_anything_runs(lab: Lab) -> None:
    (lab.root / "data" / "t_val.bin").unlink()
    result = lab.run()
    assert result.exit_code == 4
    assert "dense needs data/t_val.bin, which is not there" in result.stderr
    assert lab.starts() == []


def test_model_of_another_shape_is_refused(lab: Lab) -> None:
    write_model(lab.folder / "model.bin", channels=10)
    result = lab.run()
    assert result.exit_code == 2
    assert "channels 10 -> 8" in result.stderr


def test_seeds_make_a_cell_each(lab: Lab) -> None:
    for seed in (1, 2):
        write_model(lab.folder / f"model_s{seed}.bin")
    lab.edit("baseline =", "seeds = [1, 2]\nbaseline =")
    assert lab.run().exit_code == 0
    assert lab.starts() == [f"{cell}_s{seed}" for seed in (1, 2) for cell in CELLS]
    record = json.loads((lab.folder / "cells" / "dense_s2" / "config.json").read_text())
    assert record["seed"] == 2
    assert record["configuration"]["settings"]["data_seed"] == 2
    assert "exp/model_s2.bin" in record["command"]
    command = record["command"]
    assert command[command.index("--seed") + 1] == "2"


def test_a_line_tells_each_event(lab: Lab) -> None:
    lab.plan(dense="slow")
    lines = lab.run("--only", "dense").stderr.splitlines()
    assert lines[0] == "[0:00] dense: started"
    assert "step 3 of 6, val loss 4.7000, 1,000 tokens/s" in lines[2]
    assert "dense: done, val loss 4.4000" in lines[-2]


def test_status_and_list_count_the_cells(lab: Lab) -> None:
    lab.plan(dense="fail")
    lab.run("--only", "dense", "--only", "fc1*")
    status = json.loads(lab.matrix("status", "exp", "--json").stdout)
    assert status["schema"] == 1
    assert [(row["cell"], row["state"], row["step"]) for row in status["cells"]] == [
        ("dense", "failed", 2), ("fc1_bw16", "done", 6), ("fc2_bw16", "-", 0)]  # fmt: skip
    table = lab.matrix("status", "exp").stdout
    assert "the disk is on fire" in table
    assert "1 done, 1 failed, 1 not run" in lab.matrix("list", ".").stdout
    assert lab.matrix("list", "data").exit_code == 2


def test_models_made_by_the_matrix_follow_its_recipe(lab: Lab) -> None:
    (lab.folder / "model.bin").unlink()
    assert lab.run().exit_code == 0
    first = (lab.folder / "model.bin").read_bytes()
    assert first[24:28] == (8).to_bytes(4, "little")
    lab.edit("vocab = 64", "vocab = 64\nseed = 5")
    result = lab.run()
    assert result.exit_code == 2
    assert "seed 1337 -> 5" in result.stderr
    assert (lab.folder / "model.bin").read_bytes() == first
    assert "seed 1337 -> 5" in lab.run("--dry-run").stdout
    assert lab.run("--rerun-changed").exit_code == 0
    assert (lab.folder / "model.bin").read_bytes() != first
    assert lab.starts() == CELLS * 2
