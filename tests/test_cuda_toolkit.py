"""Finding CUDA's compiler and libraries, on folders that look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyllmc import cuda_toolkit

FILES = ("include/cuda_runtime.h", "include/cublasLt.h", "lib/libcudart_static.a",
         "lib/libcublasLt.so.13")  # fmt: skip


def make_nvcc(root: Path, version: str = "13.0") -> Path:
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.88'\n")
    nvcc.chmod(0o755)
    return nvcc


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch):
    """find_toolkit() that looks into the given folders alone."""

    def look(*roots: Path) -> cuda_toolkit.Toolkit:
        monkeypatch.setattr(cuda_toolkit, "_roots", lambda: list(roots))
        return cuda_toolkit.find_toolkit()

    return look


@pytest.mark.parametrize("lib", ["lib", "lib64", "targets/x86_64-linux/lib"])
def test_a_whole_toolkit_is_used(find, tmp_path: Path, lib: str) -> None:
    nvcc = make_nvcc(tmp_path)
    make_files(tmp_path, *(name.replace("lib/", f"{lib}/") for name in FILES))
    found = find(tmp_path)
    assert found.usable
    assert found.problem() == ""
    assert found.make_settings() == {
        "NVCC": str(nvcc),
        "CUDA_INCLUDES": str(tmp_path / "include"),
        "CUDA_CUBLAS": str(tmp_path / lib / "libcublasLt.so.13"),
        "CUDA_CUDART": str(tmp_path / lib / "libcudart_static.a"),
    }


@pytest.mark.parametrize(
    ("name", "told"),
    [(name, name.rpartition("/")[2]) for name in FILES],
)
def test_what_is_missing_is_named(find, tmp_path: Path, name: str, told: str) -> None:
    make_nvcc(tmp_path)
    make_files(tmp_path, *(other for other in FILES if other != name))
    found = find(tmp_path)
    assert not found.usable
    assert told in found.problem()
    assert cuda_toolkit.PACKAGES in found.problem()


def test_cublas_may_come_from_elsewhere_but_the_compilers_headers_come_first(
    find, tmp_path: Path
) -> None:
    """A system's nvcc without cuBLAS beside the packages that PyTorch brings."""
    system, packages = tmp_path / "system", tmp_path / "packages"
    make_nvcc(system)
    make_files(system, FILES[0], FILES[2])
    make_files(packages, *FILES)
    found = find(packages, system)
    assert found.usable
    assert found.includes == [system / "include", packages / "include"]
    assert found.cudart == system / "lib" / "libcudart_static.a"
    assert found.cublas == packages / "lib" / "libcublasLt.so.13"


def test_cublas_is_that_of_other_packages_whoever_names_a_toolkit(find, tmp_path: Path) -> None:
    """CuPy's and PyTorch's cuBLAS would else meet the toolkit's cuBLASLt."""
    named, packages = tmp_path / "named", tmp_path / "packages" / "nvidia" / "cu13"
    nvcc = make_nvcc(named)
    make_files(named, *FILES)
    make_files(packages, *FILES)
    found = find(named, packages)
    assert (found.nvcc, found.includes) == (nvcc, [named / "include"])
    assert found.cublas == packages / "lib" / "libcublasLt.so.13"


def test_an_old_compiler_is_none(find, tmp_path: Path) -> None:
    make_nvcc(tmp_path, "12.4")
    make_files(tmp_path, *FILES)
    assert "no nvcc of CUDA 13 or later" in find(tmp_path).problem()
