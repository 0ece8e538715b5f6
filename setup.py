"""Builds the extension, the programs and, where CUDA's compiler is, the CUDA library by
csrc/Makefile; everything else is in pyproject.toml.

PYLLMC_CUDA: auto (the default) builds the library when all it needs is found, 1 insists, 0 leaves
it out.
"""

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
PROGRAMS = ("train_banded", "generate_banded")
CUDA_LIBRARY = "libpyllmc_cuda.so"


class MakeExtension(build_ext):
    """`build_ext` that hands the work to make and puts the results into the package."""

    def run(self) -> None:
        for tool in ("make", os.environ.get("CXX", "g++").split()[0]):
            if shutil.which(tool) is None:
                raise SystemExit(
                    f"building pyllmc needs {tool!r}, which is not on the PATH: install it "
                    "(Debian, Ubuntu: apt install g++ make) and try again"
                )
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if not header.exists():
            raise SystemExit(
                f"building pyllmc needs Python's headers, and there is no {header}: install them "
                "(Debian, Ubuntu: apt install python3-dev) and try again"
            )
        # A build in place and a wheel see different include folders: each keeps its own objects.
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        if self.inplace:
            package, objects = ROOT / "pyllmc", ROOT / "build" / f"inplace{suffix}"
        else:
            package, objects = Path(self.build_lib).resolve() / "pyllmc", Path(self.build_temp)
        objects.mkdir(parents=True, exist_ok=True)
        with open(objects / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            settings = cuda_settings()  # first: it may refuse
            self.compile(objects.resolve())
            install(objects / "_core.so", package / f"_core{suffix}")
            for name in PROGRAMS:
                if (objects / name).exists():
                    install(objects / name, package / "bin" / name)
            if settings is None:
                return
            self.make(["cuda"], objects.resolve(), settings)
            install(objects / CUDA_LIBRARY, package / CUDA_LIBRARY)

    def compile(self, objects: Path) -> None:
        import pybind11

        settings = {
            "PYTHON_INCLUDES": f"{sysconfig.get_path('include')} {pybind11.get_include()}",
        }
        self.make(["all"], objects, settings)

    def make(self, targets: list[str], objects: Path, settings: dict[str, str]) -> None:
        settings = {
            "BUILD": str(objects),
            "PYLLMC_VERSION": self.distribution.get_version(),
            **settings,
        }
        # The flags of an outer make name a job server that this make cannot reach.
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
        command = ["make", "--no-print-directory", "-C", str(ROOT / "csrc")]
        command += [f"-j{self.parallel or len(os.sched_getaffinity(0))}"]
        command += [f"{name}={value}" for name, value in settings.items()] + targets
        if subprocess.run(command, env=environment).returncode:
            raise SystemExit("building the C++ part of pyllmc failed: see the messages above")


def cuda_settings() -> dict[str, str] | None:
    """What make needs to build the CUDA library; None when it is not to be built."""
    wanted = os.environ.get("PYLLMC_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"PYLLMC_CUDA is {wanted!r}: set it to auto, 0 or 1")
    if wanted == "0":
        return None
    spec = importlib.util.spec_from_file_location("toolkit", ROOT / "pyllmc" / "cuda_toolkit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    toolkit = module.find_toolkit()
    if toolkit.usable:
        return toolkit.make_settings()
    if wanted == "1":
        raise SystemExit(toolkit.problem())
    if toolkit.nvcc is not None:
        print("without CUDA: " + toolkit.problem(), file=sys.stderr)
    return None


def install(source: Path, target: Path) -> None:
    """Copies by rename, so that a running program keeps its old file."""
    if target.exists() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, temporary)
    os.replace(temporary, target)


class InPlace(Distribution):
    """Of setuptools before 77, which refuses this project's pyproject.toml but need not read it to
    build in place."""

    def parse_config_files(self, *args, **kwargs) -> None:
        text = (ROOT / "pyllmc" / "__init__.py").read_text()
        self.metadata.name = "pyllmc"
        self.metadata.version = re.search(r'^__version__ = "(.*)"', text, re.MULTILINE)[1]


reads_pyproject = int(setuptools.__version__.split(".")[0]) >= 77 or "--inplace" not in sys.argv
setup(
    ext_modules=[Extension("pyllmc._core", sources=[])],
    cmdclass={"build_ext": MakeExtension},
    distclass=Distribution if reads_pyproject else InPlace,
)
