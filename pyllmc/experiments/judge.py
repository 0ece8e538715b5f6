"""What became of an attempt: the program's exit code, its log and its last words."""

from __future__ import annotations

import math
import signal
from pathlib import Path

from pyllmc.experiments.job import Job
from pyllmc.experiments.metrics import read_metrics
from pyllmc.programs import how_ended

_DIVERGED = 3
_PREEMPTED = (75, 130, -signal.SIGINT, -signal.SIGTERM)


def judge(job: Job, code: int, killed: bool, stderr: Path) -> tuple[str, int, str]:
    """State, exit code and a sentence for a child that ended with `code`.

    Exit code 0 alone does not make a run done: its log must say that it ended at the last step,
    with the settings that were asked for.
    """
    if code == 0:
        problem = _unfinished(job)
        return ("done", code, "") if problem is None else ("failed", code, problem)
    if killed:
        return "preempted", code, "ended at once"
    if code in _PREEMPTED:
        return "preempted", code, ""
    last = _last_line(stderr)
    if code == _DIVERGED:
        return "diverged", code, last or "loss or gradient not finite"
    return "failed", code, (last if code > 0 else "") or f"the program {how_ended(code)}"


def _unfinished(job: Job) -> str | None:
    metrics = read_metrics(job.log)
    if not job.log.exists():
        return f"the program reported success but wrote no {job.log}"
    if metrics.end != "done" or metrics.end_step != job.steps:
        return (
            f"the program reported success, but {metrics.path} ends at step "
            f"{metrics.end_step} ({metrics.end}), not done at step {job.steps}"
        )
    for name, wanted in job.record["configuration"]["settings"].items():
        used = metrics.settings.get(name)
        if used is not None and wanted is not None and not _same(used, wanted):
            return f"the program ran with {name} {used}, not {wanted} as asked"
    return None


def _same(used: object, wanted: object) -> bool:
    if isinstance(used, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(used, wanted, rel_tol=1e-6)  # the program may keep single precision
    return used == wanted


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
