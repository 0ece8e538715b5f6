"""One command on a machine with an NVIDIA GPU: build, tests, sanitizer, benchmark, a short table.

    make gpu-check OUT=folder, or python3 tests/gpu/gpu_check.py --out folder

Needs nvcc, g++ and make and, for the interpreter that runs it, setuptools, pybind11, numpy, click
and pytest; it downloads nothing. PyTorch is the benchmark's peer where it is installed; it compiles
its models while the tests run. Every part has a time limit of its own. OUT/gpu_check.log has what
each wrote, OUT/gpu_check.json the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from machine import facts, find_tool, has_module, query_gpu
from results import kernel_times, results_in, sanitizer_verdict, table

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent

# In the order in which they run, with their limits in seconds and what is kept for them of the
# whole check's time, however long those before them take.
PARTS = {
    "build": (150, 0),
    "tests": (150, 0),
    "memcheck": (90, 0),
    "racecheck": (90, 0),
    "compiling": (60, 0),
    "peaks": (30, 15),
    "steps": (60, 40),
    "linear": (45, 20),
    "torch": (150, 90),
    "matrix": (330, 0),
    "profile": (120, 0),
    "autotune": (400, 0),
}
# Not within the eight minutes of the others: asked for by --parts.
EXTRA = ("matrix", "profile", "autotune")

# compute-sanitizer's words where it cannot work, as on some virtual machines.
REFUSALS = ("Device not supported", "not supported on this", "No attachable process")


@dataclass
class Part:
    """What became of one part: "passed", "failed", "skipped" or "out of time"."""

    name: str
    state: str
    seconds: float = 0.0
    note: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)


class Check:
    """The parts, one after another, and what they found."""

    def __init__(self, out: Path, deadline: float, chosen: list[str]) -> None:
        self.out = out
        self.log = out / "gpu_check.log"
        self.log.write_bytes(b"")
        self.deadline = deadline
        self.chosen = chosen
        self.parts: list[Part] = []
        self.background: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ)
        self.environment["PYLLMC_CUDA"] = "1"
        # What is being checked, never an emulation that the caller's environment names.
        self.environment["PYLLMC_CUDA_LIBRARY"] = str(ROOT / "pyllmc" / "libpyllmc_cuda.so")
        # Packages may have been brought along by the caller's.
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.environment["PYTHONUNBUFFERED"] = "1"
        # What PyTorch compiles in the background is found again when it is timed.
        self.environment["TORCHINDUCTOR_FX_GRAPH_CACHE"] = "1"
        self.environment["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "1"
        self.gpu = query_gpu()
        if capability := self.gpu.get("capability", "").replace(".", ""):
            arch = f"{capability}a" if capability == "90" else capability
            # Only what this GPU runs: the build takes a third of the time.
            self.environment["CUDA_ARCHS"] = f"-gencode arch=compute_{arch},code=sm_{arch}"

    def limit(self, name: str) -> float:
        """Seconds that a part may take now."""
        later = self.chosen[self.chosen.index(name) + 1 :]
        kept = sum(PARTS[part][1] for part in later)
        return min(PARTS[name][0], self.deadline - time.monotonic() - kept)

    def run(self, name: str, command: list[str], **environment: str) -> tuple[Part, str]:
        """Runs a command to its end or its limit; JSON lines of its stdout are results."""
        limit = self.limit(name)
        print(f"{name}: at most {max(limit, 0):.0f} s", flush=True)
        if limit < 5:
            return self.add(Part(name, "out of time", note="the whole check's time is used up")), ""
        begin = time.monotonic()
        with self.log.open("ab") as stream:
            stream.write(f"\n==== {name}\n$ {' '.join(command)}\n".encode())
            stream.flush()
            start = stream.tell()
            child = self.start(command, stream, environment)
            try:
                child.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                stop(child)
        with self.log.open("rb") as stream:
            stream.seek(start)
            text = stream.read().decode(errors="replace")
        part = Part(name, "passed" if child.returncode == 0 else "failed")
        part.seconds = time.monotonic() - begin
        part.results = results_in(text)
        if child.returncode == -signal.SIGKILL and part.seconds >= limit:
            part.state, part.note = "out of time", f"stopped after {limit:.0f} s"
        elif child.returncode != 0:
            part.note = last_words(text) or f"exit code {child.returncode}"
        return self.add(part), text

    def start(
        self, command: list[str], stream: Any, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def add(self, part: Part) -> Part:
        self.parts.append(part)
        print(describe(part), flush=True)
        self.write()
        return part

    def skip(self, name: str, reason: str) -> None:
        self.add(Part(name, "skipped", note=reason))

    def write(self) -> None:
        """The results so far: a check that is stopped leaves them."""
        found = {"schema": 2, "gpu": self.gpu, "parts": [asdict(part) for part in self.parts]}
        path = self.out / "gpu_check.json"
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(aside, path)

    # ---- parts

    def build(self) -> None:
        if "torch" in self.chosen and has_module("torch"):
            with (self.out / "compiling.part").open("wb") as stream:
                # The build and the tests come first.
                command = ["nice", "-n", "19", sys.executable]
                command += [str(HERE / "bench_torch.py"), "compile"]
                self.background = self.start(command, stream, {})
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        self.run("build", command, CUDA_SPILLS="warn")

    def tests(self) -> None:
        folders = ["tests/ops", "tests/train", "tests/models", "tests/apps", "tests/interop"]
        command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider"]
        command += ["--maxfail=40", "-o", "faulthandler_timeout=60"]
        if has_module("xdist"):
            command += ["-n", "8"]  # conftest.py ends a process that has lost its GPU
        # Modules whose packages are missing here hold no GPU tests.
        command += existing_modules(folders)
        threads = str(max(1, len(os.sched_getaffinity(0)) // 8))
        part, text = self.run("tests", command, PYLLMC_GPU_TESTS="1", OMP_NUM_THREADS=threads)
        if part.state != "out of time":
            part.note = last_words(text)
        self.write()

    def sanitize(self, tool: str) -> None:
        sanitizer = find_tool("compute-sanitizer")
        if sanitizer is None:
            self.skip(tool, "there is no compute-sanitizer on the PATH or beside CUDA")
            return
        known = subprocess.run(
            [sanitizer, "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        ).stdout
        command = [sys.executable, str(HERE / "small_runs.py"), sanitizer, "--tool", tool]
        command += ["--error-exitcode", "9", "--print-limit", "20"]
        # Libraries probe the driver by calls that may fail; our own results are all looked at.
        command += ["--report-api-errors", "no"]
        # Ours alone: cuBLAS's kernels are many and not in question.
        command += ["--kernel-name" if "--kernel-name" in known else "--filter"]
        command += ["kernel_substring=pyllmc"]
        part, text = self.run(tool, command)
        refusal = next((words for words in REFUSALS if words in text), None)
        if part.state == "failed" and refusal:
            part.state, part.note = "skipped", f"compute-sanitizer refuses this machine: {refusal}"
        elif part.state == "passed" or (part.state == "failed" and "SUMMARY" in text):
            part.state, part.note = sanitizer_verdict(text, part.state)
        self.write()

    def memcheck(self) -> None:
        self.sanitize("memcheck")

    def racecheck(self) -> None:
        self.sanitize("racecheck")

    def compiling(self) -> None:
        """Waits for what build() began: nothing is timed meanwhile."""
        if self.background is None:
            return
        begin = time.monotonic()
        part = Part("compiling", "passed", note="the rest of PyTorch's, begun with the build")
        try:
            self.background.wait(timeout=max(self.limit("compiling"), 1))
        except subprocess.TimeoutExpired:
            part.note = "stopped: PyTorch compiles the rest when it is timed"
        self.end_background()
        part.seconds = time.monotonic() - begin
        self.add(part)

    def end_background(self) -> None:
        if self.background is None:
            return
        stop(self.background)
        self.background = None
        path = self.out / "compiling.part"
        with self.log.open("ab") as stream:
            stream.write(b"\n==== compiling\n" + path.read_bytes())
        path.unlink()

    def peaks(self) -> None:
        self.run("peaks", [sys.executable, str(HERE / "bench_peaks.py")])

    def steps(self) -> None:
        self.run("steps", [sys.executable, str(HERE / "bench_steps.py")])

    def linear(self) -> None:
        self.run("linear", [sys.executable, str(HERE / "bench_linear.py")])

    def torch(self, name: str = "torch") -> None:
        if not has_module("torch"):
            self.skip(name, f"{sys.executable} has no PyTorch")
            return
        self.run(name, [sys.executable, str(HERE / "bench_torch.py"), name])

    def autotune(self) -> None:
        self.torch("autotune")

    def matrix(self) -> None:
        self.run("matrix", [sys.executable, str(HERE / "bench_matrix.py")])

    def profile(self) -> None:
        """Time of each kernel of one step, by Nsight Compute."""
        ncu = find_tool("ncu")
        if ncu is None:
            self.skip("profile", "there is no ncu on the PATH or beside CUDA")
            return
        for shape in ("C=128 L=4 B=16 T=256", "C=512 L=8 B=16 T=512"):
            metric = "gpu__time_duration.sum"
            command = [ncu, "--clock-control", "none", "--metrics", metric, "--csv"]
            command += [sys.executable, str(HERE / "one_step.py"), shape]
            part, text = self.run("profile", command)
            part.results = kernel_times(shape, text)
        self.write()


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and all that it began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def existing_modules(folders: list[str]) -> list[str]:
    """Test modules that ask for a device: the only ones whose imports must work here."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            text = path.read_text()
            if "cuda" in text or "device" in text:
                found.append(str(path.relative_to(ROOT)))
    return found


def last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def describe(part: Part) -> str:
    return f"{part.name:12}{part.state:14}{part.seconds:6.0f} s  {part.note}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="build/gpu-check", help="folder for the log and results")
    parser.add_argument(
        "--parts",
        default=",".join(name for name in PARTS if name not in EXTRA),
        help=f"comma-separated: {','.join(PARTS)}",
    )
    parser.add_argument("--seconds", type=float, default=480, help="limit of the whole check")
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; use {','.join(PARTS)}")
    out = Path(chosen.out)
    out.mkdir(parents=True, exist_ok=True)
    check = Check(out.resolve(), time.monotonic() + chosen.seconds, parts)
    print("\n".join(facts()), flush=True)
    if not check.gpu:
        print("gpu-check: nvidia-smi lists no GPU: run it on a machine with one", file=sys.stderr)
        return 5
    print(f"{check.gpu['name']}, driver {check.gpu['driver']}, sm_{check.gpu['capability']}")
    try:
        for name in parts:
            try:
                getattr(check, name)()
            except Exception as error:  # the other parts still have their say
                check.add(Part(name, "failed", note=f"{type(error).__name__}: {error}"))
            if name == "build" and check.parts[-1].state != "passed":
                break
    finally:
        check.end_background()
    found = [result for part in check.parts for result in part.results]
    print("\n".join(["", *table(found), ""]))
    for part in check.parts:
        print(describe(part))
    print(f"everything: {check.out / 'gpu_check.json'}, {check.log}")
    return 1 if any(part.state in ("failed", "out of time") for part in check.parts) else 0


if __name__ == "__main__":
    sys.exit(main())
