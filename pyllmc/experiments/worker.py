"""`python -m pyllmc.experiments.worker CELL_DIR`: runs the job queued in a cell's folder.

What Slurm jobs and Dask tasks start on the machine where the cell is to run. SIGTERM lets the
program finish its step and save. Exit codes: 0 done or diverged, 1 failed, 75 stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pyllmc.experiments.attempt import Attempt
from pyllmc.experiments.gpus import Slot, make_slots
from pyllmc.experiments.job import Job, read_job
from pyllmc.experiments.state import RESULTS
from pyllmc.experiments.stop import StopRequests, stop_with_parent

_POLL_SECONDS = 0.1
_BUSY_SECONDS = 1.0
_EXIT_PREEMPTED = 75


def worker_command(cell_dir: Path) -> list[str]:
    """The command that runs the job of a cell (its absolute folder) and ends with this process."""
    return [sys.executable, "-m", __name__, str(cell_dir), str(os.getpid())]


def run_job(job: Job, stop: StopRequests) -> int:
    """Runs a job to its end; one that another runner owns is waited for, and taken over when that
    one is gone. Returns the exit code."""
    slot = _wait_for_slot(job, stop)
    if slot is None:
        return _EXIT_PREEMPTED
    try:
        while not stop.count:
            attempt = Attempt(job, slot)
            attempt.start()
            _watch(attempt, stop)
            if attempt.state.state != "busy":
                return _exit_code(attempt.state.state)
            time.sleep(_BUSY_SECONDS)
        return _EXIT_PREEMPTED
    finally:
        slot.release()


def _wait_for_slot(job: Job, stop: StopRequests) -> Slot | None:
    slots = make_slots(job.gpus, None, job.jobs_per_gpu)
    while not stop.count:
        for slot in slots:
            if slot.acquire():
                return slot
        time.sleep(_BUSY_SECONDS)
    return None


def _watch(attempt: Attempt, stop: StopRequests) -> None:
    asked = False
    while not attempt.poll():
        if stop.count and not asked:
            # Once only: the system sends SIGTERM for every thread of a parent that dies, and a
            # batch system may repeat it. `cancel --now` is what ends a run at once.
            asked = True
            attempt.signal(force=False)
        time.sleep(_POLL_SECONDS)


def _exit_code(state: str) -> int:
    return 0 if state in RESULTS else _EXIT_PREEMPTED if state == "preempted" else 1


def main(cell_dir: str, parent: str) -> int:
    """Stops in good order when process number `parent`, which started it, is gone."""
    # Slurm sends it to every process of a job; the one that answers is the parent.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with StopRequests() as stop:
        stop_with_parent()
        if os.getppid() != int(parent):
            return _EXIT_PREEMPTED
        job = read_job(Path(cell_dir))
        os.chdir(job.cwd)
        return run_job(job, stop)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
