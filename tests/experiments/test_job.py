"""The job that lies in a cell's folder, as a worker reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyllmc.errors import FormatError
from pyllmc.experiments.job import FILE_NAME, Job, read_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(
        name="dense",
        command=("train_banded", "--steps", "1"),
        cwd=tmp_path,
        cell_dir=tmp_path,
        log=Path("logs/log.txt"),
        checkpoint=Path("ckpt.bin"),
        record={"configuration": {}},
        identity="0",
        steps=1,
        after=0,
        anew=False,
    )
    made.queue()
    return made


def test_a_queued_job_is_read_as_it_was(job: Job) -> None:
    assert read_job(job.cell_dir) == job


@pytest.mark.parametrize("key", ["cwd", "command", "identity"])
def test_a_job_that_lacks_something_is_told(job: Job, key: str) -> None:
    path = job.cell_dir / FILE_NAME
    table = json.loads(path.read_text())
    del table[key]
    path.write_text(json.dumps(table))
    with pytest.raises(FormatError, match=rf"job\.json does not describe a job .*{key}"):
        read_job(job.cell_dir)


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"command": None}, {"log": 3}], ids=["unknown", "command", "path"]
)
def test_a_job_with_something_else_in_it_is_told(job: Job, change: dict[str, object]) -> None:
    path = job.cell_dir / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match=r"job\.json does not describe a job"):
        read_job(job.cell_dir)


def test_a_job_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"job\.json is missing: `pyllmc matrix run` writes it"):
        read_job(tmp_path)
