"""A run killed at any point of the checkpoint protocol goes on to the same bits."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from apps.lab import Lab
from train.run_lab import (
    ROOT,
    assert_same,
    copy_of,
    finish,
    killed_at,
    outcome,
    read_state,
    states,
)  # fmt: skip

RESUME_POINTS = ["resume_chosen", "resume_text_cut", "resume_logs_cut"]
# Of a run's own points, how often each is passed: 9 updates, 5 checkpoints, the finished mark.
RUN_POINTS = {
    "update_made": 9,
    "file_written": 6,
    "file_renamed": 6,
    "checkpoint_logged": 5,
    "state_folder_made": 5,
    "state_tensor_written": 10,
    "state_tensors_written": 5,
    "state_tensors_synced": 5,
    "state_manifest_half": 5,
    "state_manifest_synced": 5,
    "state_folder_synced": 5,
    "state_renamed": 5,
    "state_kept": 5,
    "state_trashed": 3,
    "state_trash_half": 3,
    "state_trash_deleted": 3,
    "run_ended": 1,
    "run_end_logged": 1,
}


def test_every_point_of_the_program_is_on_this_list(fresh: Lab) -> None:
    done = fresh.train()
    listed = fresh.run([str(fresh.programs.train_banded), "--fault-points"]).stdout.split()
    assert listed == [*RESUME_POINTS, *RUN_POINTS]
    assert done.returncode == 0


@pytest.mark.parametrize("plan", ["kill@nowhere", "update_made", "kill@update_made:0", "kill@:1"])
def test_a_plan_that_names_no_point_is_refused(plan: str, fresh: Lab) -> None:
    done = fresh.train("-n", 0, env={"PYLLMC_FAULT": plan})
    assert done.returncode == 2
    assert f"PYLLMC_FAULT is '{plan}'" in done.stderr


@pytest.mark.parametrize("point", RUN_POINTS)
def test_killed_anywhere_and_resumed(
    point: str, fresh: Lab, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    for times in range(1, RUN_POINTS[point] + 1):
        lab = copy_of(fresh, tmp_path / str(times))
        assert killed_at(lab, point, times=times).returncode == -signal.SIGKILL
        if times > 2 and (lab.folder / ROOT).exists():
            # Two states that can be read, whatever was going on.
            kept = states(lab)
            assert len(kept) >= min(2, times - 3)
            for name in kept:
                read_state(lab.folder / ROOT / name)
        finish(lab)
        assert_same(lab, unbroken)
    lab = copy_of(fresh, tmp_path / "through")
    assert killed_at(lab, point, times=RUN_POINTS[point] + 1).returncode == 0


@pytest.mark.parametrize("point", RESUME_POINTS)
def test_killed_while_resuming_and_resumed_again(
    point: str, fresh: Lab, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    lab = copy_of(fresh, tmp_path / "run")
    assert killed_at(lab, "update_made", times=5).returncode == -signal.SIGKILL
    for _ in range(2):
        assert killed_at(lab, point, "--resume").returncode == -signal.SIGKILL
    finish(lab)
    assert_same(lab, unbroken)


@pytest.mark.parametrize("point", ["state_folder_synced", "state_renamed", "state_kept"])
def test_killed_while_a_state_of_the_same_step_is_replaced(
    point: str, fresh: Lab, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    """The last step's state is written again when its end was lost."""
    lab = copy_of(fresh, tmp_path / "run")
    assert killed_at(lab, "run_ended").returncode == -signal.SIGKILL
    (lab.folder / ROOT / "step_00000009" / "tensors.bin").write_bytes(b"")
    assert killed_at(lab, point, "--resume").returncode == -signal.SIGKILL
    finish(lab)
    assert_same(lab, unbroken | {"files": outcome(lab)["files"]})


def test_killed_after_every_update(fresh: Lab, unbroken: dict[str, Any], tmp_path: Path) -> None:
    """A run that never gets further than two updates at a time."""
    lab = copy_of(fresh, tmp_path / "run")
    starts = 0
    while killed_at(lab, "update_made", "--resume", times=3).returncode != 0:
        starts += 1
        assert starts < 9
    assert starts == 4
    assert [event["step"] for event in lab.events("resume")] == [2, 4, 6, 8]
    assert_same(lab, unbroken)
