"""One command on a machine with an NVIDIA GPU: build, tests, sanitizer, benchmark, a short table.

    make gpu-check OUT=folder

Needs nvcc and, for the interpreter that runs it, setuptools, pybind11, numpy, click and pytest; it
downloads nothing. PyTorch is the benchmark's peer where it is installed. Every part has a time
limit of its own, writes its log to OUT/<part>.log, and its results go to OUT/gpu_check.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent

# In the order in which they run, with their limits in seconds.
LIMITS = {
    "build": 240,
    "tests": 120,
    "memcheck": 45,
    "racecheck": 45,
    "steps": 60,
    "linear": 30,
    "torch": 180,
    "matrix": 200,
    "profile": 120,
}
# Not within the eight minutes of the others: asked for by --parts.
EXTRA = ("matrix", "profile")

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

    def __init__(self, out: Path, deadline: float) -> None:
        self.out = out
        self.deadline = deadline
        self.parts: list[Part] = []
        self.environment = dict(os.environ)
        self.environment["PYLLMC_CUDA"] = "1"
        # What is being checked, never an emulation that the caller's environment names.
        self.environment["PYLLMC_CUDA_LIBRARY"] = str(ROOT / "pyllmc" / "libpyllmc_cuda.so")
        self.environment["PYTHONPATH"] = str(ROOT)
        self.gpu = query_gpu()
        if capability := self.gpu.get("capability", "").replace(".", ""):
            arch = f"{capability}a" if capability == "90" else capability
            # Only what this GPU runs: the build takes a third of the time.
            self.environment["CUDA_ARCHS"] = f"-gencode arch=compute_{arch},code=sm_{arch}"

    def run(self, name: str, command: list[str], **environment: str) -> tuple[Part, str]:
        """Runs a command to its end or its limit; JSON lines of its stdout are results."""
        limit = min(LIMITS[name], self.deadline - time.monotonic())
        print(f"{name}: at most {max(limit, 0):.0f} s", flush=True)
        if limit < 5:
            return self.add(Part(name, "out of time", note="the whole check's time is used up")), ""
        log = self.out / f"{name}.log"
        begin = time.monotonic()
        with log.open("w") as stream:
            stream.write(f"$ {' '.join(command)}\n")
            stream.flush()
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                child.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        text = log.read_text(errors="replace")
        part = Part(name, "passed" if child.returncode == 0 else "failed")
        part.seconds = time.monotonic() - begin
        part.results = results_in(text)
        if child.returncode == -signal.SIGKILL and part.seconds >= limit:
            part.state, part.note = "out of time", f"stopped after {limit:.0f} s"
        elif child.returncode != 0:
            part.note = last_words(text) or f"exit code {child.returncode}"
        return self.add(part), text

    def add(self, part: Part) -> Part:
        self.parts.append(part)
        note = f": {part.note}" if part.note else ""
        print(f"{part.name}: {part.state} in {part.seconds:.0f} s{note}", flush=True)
        self.write()
        return part

    def skip(self, name: str, reason: str) -> None:
        self.add(Part(name, "skipped", note=reason))

    def write(self) -> None:
        """The results so far: a check that is stopped leaves them."""
        found = {"schema": 1, "gpu": self.gpu, "parts": [asdict(part) for part in self.parts]}
        path = self.out / "gpu_check.json"
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(aside, path)

    # ---- parts

    def build(self) -> None:
        self.run("build", [sys.executable, "setup.py", "-q", "build_ext", "--inplace"])

    def tests(self) -> None:
        folders = ["tests/ops", "tests/train", "tests/models", "tests/apps", "tests/interop"]
        # Modules whose packages are missing here hold no GPU tests.
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        part, text = self.run("tests", [*command, *existing_modules(folders)], PYLLMC_GPU_TESTS="1")
        part.note = last_words(text)

    def sanitize(self, tool: str) -> None:
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not os.access(sanitizer, os.X_OK):
            self.skip(tool, "there is no compute-sanitizer on the PATH")
            return
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
        command += ["--target-processes", "all", sys.executable, str(HERE / "small_runs.py")]
        part, text = self.run(tool, command)
        refusal = next((words for words in REFUSALS if words in text), None)
        if part.state != "passed" and refusal:
            part.state, part.note = "skipped", f"compute-sanitizer refuses this machine: {refusal}"
        elif part.state == "passed" and "ERROR SUMMARY: 0 errors" not in text:
            part.state, part.note = "failed", "compute-sanitizer gave no summary"
        self.write()

    def memcheck(self) -> None:
        self.sanitize("memcheck")

    def racecheck(self) -> None:
        self.sanitize("racecheck")

    def steps(self) -> None:
        self.run("steps", [sys.executable, str(HERE / "bench_steps.py")])

    def linear(self) -> None:
        self.run("linear", [sys.executable, str(HERE / "bench_linear.py")])

    def torch(self) -> None:
        known = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True)
        if known.returncode:
            self.skip("torch", f"{sys.executable} has no PyTorch")
            return
        self.run("torch", [sys.executable, str(HERE / "bench_torch.py")])

    def matrix(self) -> None:
        self.run("matrix", [sys.executable, str(HERE / "bench_matrix.py")])

    def profile(self) -> None:
        """Time of each kernel of one step, by Nsight Compute."""
        ncu = shutil.which("ncu") or "/usr/local/cuda/bin/ncu"
        if not os.access(ncu, os.X_OK):
            self.skip("profile", "there is no ncu on the PATH")
            return
        for shape in ("C=128 L=4 B=16 T=256", "C=512 L=8 B=16 T=512"):
            metric = "gpu__time_duration.sum"
            command = [ncu, "--clock-control", "none", "--metrics", metric, "--csv"]
            command += [sys.executable, str(HERE / "one_step.py"), shape]
            part, text = self.run("profile", command)
            part.results = kernel_times(shape, text)
        self.write()


def query_gpu() -> dict[str, str]:
    """Name, driver and compute capability of the first GPU, empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total"]
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


def existing_modules(folders: list[str]) -> list[str]:
    """Test modules that ask for a device: the only ones whose imports must work here."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            text = path.read_text()
            if "cuda" in text or "device" in text:
                found.append(str(path.relative_to(ROOT)))
    return found


def results_in(text: str) -> list[dict[str, Any]]:
    results = []
    for line in text.splitlines():
        if line.startswith('{"name"'):
            results.append(json.loads(line))
    return results


def kernel_times(shape: str, text: str) -> list[dict[str, Any]]:
    """Milliseconds of every kernel by name, from ncu's CSV, the longest first."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    sums: dict[str, list[float]] = {}
    for row in csv.DictReader(lines):
        scale = {"ns": 1e-6, "us": 1e-3, "ms": 1.0}.get(row.get("Metric Unit", ""), 1e-6)
        value = float(row["Metric Value"].replace(",", "")) * scale
        sums.setdefault(row["Kernel Name"].split("(")[0][:90], []).append(value)
    return [
        {"name": f"{shape}: {len(times)} x {name}", "ms": sum(times)}
        for name, times in sorted(sums.items(), key=lambda item: -sum(item[1]))
    ]


def last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if len(lines) > 1 else ""


def table(check: Check) -> list[str]:
    """The figures, a line each, with what they are held against."""
    found = {r["name"]: r for part in check.parts for r in part.results}
    lines = [f"{'':52}{'ms':>10}{'against':>10}"]

    def line(name: str, against: str = "", what: str = "") -> None:
        if name not in found:
            return
        ms = found[name]["ms"]
        ratio = f"{ms / found[against]['ms']:9.2f}x" if against in found else ""
        lines.append(f"{name:52}{ms:10.3f}{ratio:>10}  {what if ratio else ''}".rstrip())

    for name, result in found.items():
        line(name, result.get("against", ""), result.get("against", ""))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="build/gpu-check", help="folder for logs and results")
    parser.add_argument(
        "--parts",
        default=",".join(name for name in LIMITS if name not in EXTRA),
        help=f"comma-separated: {','.join(LIMITS)}",
    )
    parser.add_argument("--seconds", type=float, default=480, help="limit of the whole check")
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(LIMITS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; use {','.join(LIMITS)}")
    out = Path(chosen.out)
    out.mkdir(parents=True, exist_ok=True)
    check = Check(out.resolve(), time.monotonic() + chosen.seconds)
    if not check.gpu:
        print("gpu-check: nvidia-smi lists no GPU: run it on a machine with one", file=sys.stderr)
        return 5
    print(f"{check.gpu['name']}, driver {check.gpu['driver']}, sm_{check.gpu['capability']}")
    for name in parts:
        getattr(check, name)()
        if name == "build" and check.parts[-1].state != "passed":
            break
    check.write()
    print("\n".join(["", *table(check), ""]))
    for part in check.parts:
        print(f"{part.name:12}{part.state:14}{part.seconds:6.0f} s  {part.note}".rstrip())
    print(f"everything: {check.out / 'gpu_check.json'}")
    return 1 if any(part.state in ("failed", "out of time") for part in check.parts) else 0


if __name__ == "__main__":
    sys.exit(main())
