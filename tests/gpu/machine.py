"""What a machine has to build and check with."""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys

TOOLS = ("make", "g++", "nvcc", "compute-sanitizer", "ncu")
PACKAGES = (
    *("setuptools", "pybind11", "numpy", "click", "pytest", "pytest-xdist", "torch"),
    "cupy-cuda13x",
)


def query_gpu() -> dict[str, str]:
    """Name, driver and compute capability of the first GPU, empty where there is none."""
    query = [find_tool("nvidia-smi") or "nvidia-smi"]
    query += ["--query-gpu=name,driver_version,compute_cap,memory.total"]
    try:
        done = subprocess.run(
            [*query, "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode or not done.stdout.strip():
        return {}
    name, driver, capability, memory = done.stdout.splitlines()[0].split(", ")
    return {"name": name, "driver": driver, "capability": capability, "memory": memory}


def find_tool(name: str) -> str | None:
    """A program of the PATH, else of where CUDA, the driver and NVIDIA's tools are installed."""
    places = ["/usr/local/cuda*/bin", "/usr/local/cuda*/compute-sanitizer", "/usr/local/nvidia/bin"]
    places += ["/opt/nvidia/*", "/opt/nvidia/*/*", "/opt/nvidia/*/*/bin"]
    found = [shutil.which(name)]
    for place in places:
        found += sorted(glob.glob(f"{place}/{name}"), reverse=True)
    return next((p for p in found if p and os.path.isfile(p) and os.access(p, os.X_OK)), None)


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def facts() -> list[str]:
    """What there is to build and check with, in lines."""
    lines = [f"{sys.executable}: Python {platform.python_version()}"]
    lines += [f"{name}: {find_tool(name) or 'none'}" for name in TOOLS]
    lines.append(", ".join(f"{package} {version(package)}" for package in PACKAGES))
    return lines
