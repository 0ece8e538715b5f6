"""The build id of the CUDA library, by which a resumed run tells other kernels from its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2] / "csrc"


def variable(name: str, csrc: Path = CSRC) -> str:
    """What make expands a variable of csrc/Makefile to."""
    make = ["make", "-s", "-C", str(csrc), f"--eval=print: ; @echo $({name})", "print"]
    done = subprocess.run([*make, "NVCC=echo"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def included(files: set[str]) -> set[str]:
    """`files` and what they include of csrc, at any depth."""
    seen: set[str] = set()
    while files:
        seen |= files
        names = {
            name
            for file in files
            for name in re.findall(r'^#include "(.+)"', (CSRC / file).read_text(), re.MULTILINE)
        }
        files = names - seen
    return seen


def test_it_names_every_source_and_every_header_that_they_include():
    sources = {str(path.relative_to(CSRC)) for path in CSRC.rglob("*.cu")}
    needed = included(sources)
    assert {"ops/attention/attention_mma.cuh", "core/tensor.h"} <= needed
    assert needed <= set(variable("CUDA_CODE").split())


def test_a_changed_kernel_header_changes_it(tmp_path):
    copy = shutil.copytree(CSRC, tmp_path / "csrc")
    before = variable("CUDA_HASH", copy)
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert before == variable("CUDA_HASH")
    with (copy / "ops" / "attention" / "attention_mma.cuh").open("a") as header:
        header.write("// another kernel\n")
    assert variable("CUDA_HASH", copy) != before
