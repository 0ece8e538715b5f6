"""Where a run's numbers come from: versions, code, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pyllmc
from pyllmc import _core
from pyllmc.experiments.gpus import Gpu
from pyllmc.files import file_sha256

_MOST_UNTRACKED = 200


def _git(*arguments: str) -> str | None:
    """What git says in the package's folder, None outside a checkout."""
    folder = Path(pyllmc.__file__).parent
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode(errors="replace")


def uncommitted() -> str:
    """The difference between the package's checkout and its commit as a patch."""
    return _git("diff", "--binary", "HEAD") or ""


def _code() -> dict[str, Any]:
    # An installed package may lie in another project's checkout, which says nothing about it.
    own = _git("ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git("rev-parse", "HEAD") if own else None
    status = _git("status", "--porcelain", "-z")
    if commit is None or status is None:
        return {"commit": None, "dirty": None, "untracked": []}
    entries = [entry for entry in status.split("\0") if entry]
    untracked = [entry[3:] for entry in entries if entry.startswith("??")]
    return {
        "commit": commit.strip(),
        "dirty": len(entries) > len(untracked),
        "untracked": untracked[:_MOST_UNTRACKED],
    }


@functools.cache
def _versions() -> dict[str, Any]:
    build = _core.build_info()
    return {
        "pyllmc": pyllmc.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "numpy": importlib.metadata.version("numpy"),
        "compiler": build.get("compiler"),
        "kernels": build.get("kernels"),
    }


@functools.cache
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.split("\n") if "model name" in line]
    return names[0] if names else platform.processor()


def program_sha256(program: str) -> str | None:
    """Hex sha256 of a program, None when there is no such one."""
    found = shutil.which(program)
    return None if found is None else file_sha256(Path(found))


def provenance(program: str, gpu: Gpu | None) -> dict[str, Any]:
    """Versions, git state of the package's folder (commit None outside a checkout), host, device,
    and the hash of the program that trains."""
    return {
        "versions": _versions(),
        "git": _code(),
        "host": socket.gethostname(),
        "device": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpu": None if gpu is None else {"name": gpu.name, "uuid": gpu.uuid},
        },
        "program_sha256": program_sha256(program),
    }
