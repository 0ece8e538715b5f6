"""Where a run's numbers come from: versions, code, machine."""

from __future__ import annotations

import functools
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pyllmc
from pyllmc.experiments.identity import file_sha256


@functools.cache
def _code() -> dict[str, Any]:
    folder = Path(pyllmc.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


@functools.cache
def _program_sha256(program: str) -> str | None:
    found = shutil.which(program)
    return None if found is None else file_sha256(Path(found))


def provenance(program: str) -> dict[str, Any]:
    """Versions, git commit of the package's folder (None outside a checkout), host, and the hash
    of the program that trains."""
    return {
        "versions": {
            "pyllmc": pyllmc.__version__,
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "git": _code(),
        "host": socket.gethostname(),
        "program_sha256": _program_sha256(program),
    }
