"""The kernels for other processors than this one, on emulations of them.

    make processor-check [PROCESSORS="haswell nehalem aarch64"]

haswell has AVX2 and no AVX-512, nehalem neither: there the built package runs the ops' tests and
the programs. For aarch64, which has the plain kernels alone, the core is cross-compiled into
build/aarch64; its C++ tests and the programs run. A short training with a band must give this
machine's losses, and a checkpoint this machine's text.

Needs an x86-64 machine, qemu-user, and g++-aarch64-linux-gnu for aarch64 (Debian's names).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "pyllmc" / "bin"
CROSS = ROOT / "build" / "aarch64"
COMPILER = "aarch64-linux-gnu-g++"
# The two that are left out take minutes under emulation, and are more of the same code.
OP_TESTS = ["tests/ops", "-m", "not gpu", "-k", "not every_bandwidth and not wide_models"]
# Largest relative difference of a loss. Sums have the same order everywhere; whether a product is
# rounded before it is added differs, and now and then what is rounded to bf16 with it.
ALLOWED = {"fp32": 1e-6, "bf16": 1e-4}


@dataclass(frozen=True)
class Processor:
    """How programs are run on it, where they are, and the kernels that they must choose there."""

    name: str
    emulator: tuple[str, ...]
    programs: Path
    kernels: str

    def run(self, *command: Any) -> str:
        """Standard output of a command that has to succeed."""
        words = [*self.emulator, *map(str, command)]
        # A program that sets the policy itself starts again, and would leave the emulator.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}
        done = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
            raise SystemExit(f"{self.name}: exit code {done.returncode} of {' '.join(words)}")
        return done.stdout

    def train(self, folder: Path, precision: str) -> list[float]:
        """Losses of a short training from folder/model.bin, into a folder of the processor's."""
        out = folder / f"{self.name}-{precision}"
        files = ["-e", folder / "model.bin", "-i", folder / "*_train.bin"]
        files += ["-j", folder / "*_val.bin", "-c", out / "c.bin", "-o", out / "log.txt"]
        size = ["-1", 40, "-2", 60, "-n", 8, "-b", 2, "-t", 32, "-l", 3e-3, "-m", 4, "-s", 0]
        how = ["-g", 0, "--device", "cpu", "--precision", precision]
        self.run(self.programs / "train_banded", *files, *size, *how)
        (manifest,) = out.glob("c.state/step_*/manifest.json")
        kernels = json.loads(manifest.read_text())["configuration"]["instruction_set"]
        if self.kernels not in ("", kernels):
            raise SystemExit(f"{self.name}: the kernels were {kernels}, not {self.kernels}")
        lines = (out / "log.jsonl").read_text().splitlines()
        return [record["loss"] for record in map(json.loads, lines) if "loss" in record]

    def write(self, checkpoint: Path, precision: str) -> str:
        """A continuation of a prompt, drawn with a seed."""
        words = ["-e", checkpoint, "-p", "Once upon a time", "-n", 24, "-s", 7]
        tokenizer = ["--tokenizer", *checkpoint.parent.parent.glob("*_tokenizer.bin")]
        how = ["--device", "cpu", "--precision", precision]
        return self.run(self.programs / "generate_banded", *words, *tokenizer, *how)


HERE = Processor("here", (), PACKAGE, "")
PROCESSORS = [
    Processor("haswell", ("qemu-x86_64", "-cpu", "Haswell"), PACKAGE, "x86-64-v3 avx2 avx2"),
    Processor("nehalem", ("qemu-x86_64", "-cpu", "Nehalem"), PACKAGE, "baseline plain plain"),
    Processor(
        "aarch64", ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"), CROSS, "baseline plain plain"
    ),
]


def cross_compile() -> None:
    """The programs and the C++ tests."""
    # The flags of an outer make name a job server that this make cannot reach.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
    for words in (["csrc", "all"], ["tests/cpp", "tests", "SANITIZERS="]):
        make = ["make", "-s", f"-j{len(os.sched_getaffinity(0))}", f"BUILD={CROSS}"]
        make += [f"CXX={COMPILER}", "-C", *words]
        done = subprocess.run(make, cwd=ROOT, env=environment, stdout=sys.stderr)
        if done.returncode:
            raise SystemExit("cross-compiling for aarch64 failed: see the messages above")


def prepare(folder: Path) -> dict[str, tuple[list[float], str]]:
    """A small model, its data, and what this machine makes of them: losses and text."""
    pyllmc = Path(sys.executable).parent / "pyllmc"
    HERE.run(pyllmc, "data", "prepare", "ministories", "--stories", 100, "--out-dir", folder)
    shape = ["-C", 48, "-L", 2, "--heads", 3, "--context", 32, "--vocab", 1024]
    HERE.run(pyllmc, "model", "init", *shape, "-o", folder / "model.bin")
    return {p: (HERE.train(folder, p), HERE.write(folder / f"here-{p}/c.bin", p)) for p in ALLOWED}


def check(processor: Processor, folder: Path, expected: dict[str, tuple[list[float], str]]) -> str:
    """Everything on one processor; returns what was found in a few words."""
    if processor.programs == CROSS:
        cross_compile()
        tests = processor.run(CROSS / "tests" / "run")
    else:
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        tests = processor.run(*pytest, *OP_TESTS)
    found = [tests.splitlines()[-1]]
    for precision, (here, text) in expected.items():
        losses = processor.train(folder, precision)
        off = max(abs(a / b - 1) for a, b in zip(losses, here, strict=True))
        if not off <= ALLOWED[precision]:
            raise SystemExit(f"{processor.name}: {precision} losses are off by {off:.1e}: {losses}")
        if processor.write(folder / f"here-{precision}" / "c.bin", precision) != text:
            raise SystemExit(f"{processor.name}: another text from {precision} weights")
        found.append(f"{precision} losses within {off:.1e}")
    return ", ".join(found)


def main() -> None:
    names = [processor.name for processor in PROCESSORS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("processors", nargs="*", metavar="PROCESSOR", help=f"{names}; all")
    asked = parser.parse_args().processors or names
    if unknown := set(asked) - set(names):
        raise SystemExit(f"no processor is named {sorted(unknown)}: name some of {names}")
    if platform.machine() != "x86_64":
        raise SystemExit(f"other processors are emulated on x86-64, this is {platform.machine()}")
    wanted = [processor for processor in PROCESSORS if processor.name in asked]
    needed = {processor.emulator[0]: "qemu-user" for processor in wanted}
    if "aarch64" in asked:
        needed[COMPILER] = "g++-aarch64-linux-gnu"
    if missing := {package for tool, package in needed.items() if not shutil.which(tool)}:
        raise SystemExit(f"apt-get install {' '.join(sorted(missing))}: it is needed and not there")
    with tempfile.TemporaryDirectory() as name:
        expected = prepare(Path(name))
        for processor in wanted:
            print(f"{processor.name} ...", file=sys.stderr, flush=True)
            start = time.monotonic()
            found = check(processor, Path(name), expected)
            print(f"{processor.name}: {found} ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
