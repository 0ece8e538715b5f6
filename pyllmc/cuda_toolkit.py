"""Where CUDA's compiler and libraries are. Used to build the CUDA library (setup.py reads this file
by its path) and by `pyllmc doctor`; imports nothing of the package."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

# What a user installs where there is no toolkit of the system's.
PACKAGES = "cuda-toolkit[nvcc,cudart,cccl,cublas]==13.0.*"


@dataclass
class Toolkit:
    """What was found; `missing` names what was not, empty when the library can be built."""

    nvcc: Path | None = None
    version: str = ""
    includes: list[Path] = field(default_factory=list)
    cublas: Path | None = None  # libcublasLt.so.<major>, which the library is linked with
    cudart: Path | None = None  # libcudart_static.a
    missing: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        return not self.missing

    def problem(self) -> str:
        """One sentence: what is missing and what to do; empty when nothing is."""
        if self.usable:
            return ""
        return (
            f"the CUDA library cannot be built, there is no {', no '.join(self.missing)}: "
            f"pip install '{PACKAGES}' (`make cuda` does), or install CUDA 13 and put its nvcc "
            "on the PATH"
        )

    def make_settings(self) -> dict[str, str]:
        """Variables of csrc/Makefile."""
        return {
            "NVCC": str(self.nvcc),
            "CUDA_INCLUDES": " ".join(map(str, self.includes)),
            "CUDA_CUBLAS": str(self.cublas),
            "CUDA_CUDART": str(self.cudart),
        }


def find_toolkit() -> Toolkit:
    """The first of each in: $CUDA_HOME, this Python's packages, the PATH, /usr/local/cuda; cuBLASLt
    from this Python's packages where they have it."""
    roots = _roots()
    found = Toolkit()
    for root in roots:
        nvcc = root / "bin" / "nvcc"
        if os.access(nvcc, os.X_OK) and (version := _version(nvcc)):
            found.nvcc, found.version = nvcc, version
            break
    if found.nvcc is None:
        found.missing.append("nvcc of CUDA 13 or later")
        return found
    # The compiler's own headers first: those of other places may be of another version. But this
    # Python's cuBLASLt first: whichever is opened first serves CuPy's and PyTorch's cuBLAS too.
    own = found.nvcc.parent.parent
    packages_first = sorted(roots, key=lambda root: root.parent.name != "nvidia")
    roots.sort(key=lambda root: root != own)
    for name, header in (
        ("CUDA runtime's header (cuda_runtime.h)", "cuda_runtime.h"),
        ("cuBLASLt's header (cublasLt.h)", "cublasLt.h"),
    ):
        folder = _first(roots, [f"include/{header}", f"targets/x86_64-linux/include/{header}"])
        if folder is None:
            found.missing.append(name)
        elif folder.parent not in found.includes:
            found.includes.append(folder.parent)
    found.cudart = _first(roots, [f"{lib}/libcudart_static.a" for lib in _LIBS])
    if found.cudart is None:
        found.missing.append("CUDA runtime (libcudart_static.a)")
    major = found.version.split(".")[0]
    found.cublas = _first(packages_first, [f"{lib}/libcublasLt.so.{major}" for lib in _LIBS])
    if found.cublas is None:
        found.missing.append(f"cuBLASLt (libcublasLt.so.{major})")
    return found


_LIBS = ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib")


def _roots() -> list[Path]:
    roots = [Path(home) for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    places += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    for place in places:
        roots += sorted(Path(place or ".").glob("nvidia/cu[0-9]*"), reverse=True)
    if on_path := shutil.which("nvcc"):
        # A wrapper script's own folder says nothing: the compiler tells where it is.
        roots += [Path(on_path).resolve().parent.parent, *_root_told_by(on_path)]
    roots.append(Path("/usr/local/cuda"))
    seen: dict[Path, None] = {}
    for root in roots:
        if root.is_dir():
            seen.setdefault(root.resolve())
    return list(seen)


def _root_told_by(nvcc: str) -> list[Path]:
    for line in _output([nvcc, "--dryrun", "x.cu"]).splitlines():
        if line.startswith("#$ TOP="):
            return [Path(line.removeprefix("#$ TOP=").strip())]
    return []


def _version(nvcc: Path) -> str:
    """ "13.0", empty when it does not run or is older than 13."""
    for line in _output([str(nvcc), "--version"]).splitlines():
        if "release " in line:
            version = line.split("release ")[1].split(",")[0]
            return version if int(version.split(".")[0]) >= 13 else ""
    return ""


def _output(command: list[str]) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout + run.stderr


def _first(roots: list[Path], names: list[str]) -> Path | None:
    return next((root / name for root in roots for name in names if (root / name).exists()), None)


if __name__ == "__main__":  # the Makefile asks whether packages are needed
    problem = find_toolkit().problem()
    if problem:
        print(problem, file=sys.stderr)
    sys.exit(1 if problem else 0)
