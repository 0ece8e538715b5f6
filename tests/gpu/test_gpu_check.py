"""The GPU check itself, without a GPU: how it reads what its parts write, and keeps to its time."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
CLEAN = {
    "memcheck": "========= ERROR SUMMARY: 0 errors\n",
    "racecheck": "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n",
}
DIRTY = {
    "memcheck": "========= ERROR SUMMARY: 3 errors\n",
    "racecheck": "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n",
}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("results")


@pytest.fixture
def gpu_check(results: ModuleType) -> ModuleType:
    return importlib.import_module("gpu_check")


@pytest.fixture
def new_check(gpu_check: ModuleType, tmp_path: Path):
    def make(seconds: float, *parts: str):
        return gpu_check.Check(tmp_path, time.monotonic() + seconds, list(parts))

    return make


@pytest.mark.parametrize("tool", CLEAN)
def test_every_process_that_the_sanitizer_watched_must_be_clean(results, tool):
    clean, dirty = CLEAN[tool], DIRTY[tool]
    assert results.sanitizer_verdict(3 * clean) == ("passed", "no errors in 3 runs")
    for text in (dirty, clean + dirty, dirty + clean):
        assert results.sanitizer_verdict(text)[0] == "failed"
    assert results.sanitizer_verdict("nothing of note\n")[0] == "failed"
    assert results.sanitizer_verdict(clean, "failed")[0] == "failed"


STEP = "step C=512 L=8 B=16 T=512 bf16"
PEAKS = [
    {"name": "copy of 2 GiB", "ms": 1.0, "rate": 4e12, "unit": "bytes/s"},
    {"name": "product of 8192 x 8192 bf16", "ms": 1.4, "rate": 8e14, "unit": "FLOP/s"},
]


@pytest.mark.parametrize(("ms", "verdict"), [(7.9, "reached"), (8.1, "missed")])
def test_a_line_holds_a_result_against_the_fastest_peer(results, ms, verdict):
    found = [
        *PEAKS,
        {"name": STEP, "ms": ms, "against": "torch A ", "flops": 2.4e12, "bytes": 4e9},
        {"name": "torch A graph", "ms": 12.0},
        {"name": "torch A reduce-overhead", "ms": 10.0},
        {"name": "torch AB graph", "ms": 1.0},
    ]
    line = next(line for line in results.table(found) if line.startswith(STEP))
    words = line.removeprefix(STEP).split(maxsplit=5)
    assert words == [f"{ms:.3f}", "3.000", f"{ms / 10:.2f}x", "0.80x", verdict,
                     "torch A reduce-overhead"]  # fmt: skip


def test_what_has_no_peer_is_not_judged_by_one(results):
    found = [{"name": STEP, "ms": 1.0, "against": "torch A "}]
    assert results.table(found)[0].split() == ["ms", "floor", "share", "target", "of"]
    assert results.table(found)[1].split() == [*STEP.split(), "1.000", "0.80x"]


@pytest.mark.parametrize(("ms", "verdict"), [(89_000, "reached"), (91_000, "missed")])
def test_the_matrix_has_a_time_to_keep(results, ms, verdict):
    found = [{"name": "ten runs of 5,000 steps, 5 at a time", "ms": ms}]
    assert verdict in results.table(found)[1]


def test_what_has_a_target_is_measured_by_that_name(results, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    steps = importlib.import_module("bench_steps")
    named = {run[0] for run in steps.RUNS}
    assert {name for name in results.TARGETS if name.startswith("step ")} <= named


def test_parts_write_one_log_and_their_results(new_check, tmp_path):
    check = new_check(100, "steps", "linear")
    say = "import json, sys; print('hello'); print(json.dumps({'name': sys.argv[1], 'ms': 2}))"
    check.run("steps", [sys.executable, "-c", say, "a"])
    part, text = check.run("linear", [sys.executable, "-c", say + "; sys.exit('broken')", "b"])
    assert (part.state, part.note, part.results) == ("failed", "broken", [{"name": "b", "ms": 2}])
    assert "hello" in text
    assert '"a"' not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu_check.json", "gpu_check.log"]
    written = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert [(part["name"], part["state"]) for part in written] == [
        ("steps", "passed"),
        ("linear", "failed"),
    ]
    log = (tmp_path / "gpu_check.log").read_text()
    assert log.index("==== steps") < log.index('"a"') < log.index("==== linear")


def test_parts_find_the_packages_that_the_caller_brought(new_check, tmp_path, monkeypatch):
    (tmp_path / "brought.py").write_text("print('brought along')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "-c", "import brought, pyllmc; print(pyllmc.__file__)"]
    part, text = new_check(100, "steps").run("steps", command)
    assert part.state == "passed"
    assert "brought along" in text
    assert str(HERE.parents[1]) in text


def test_a_part_that_takes_too_long_is_stopped(gpu_check, new_check, monkeypatch):
    monkeypatch.setitem(gpu_check.PARTS, "steps", (5, 0))
    part, _ = new_check(100, "steps").run("steps", ["sh", "-c", "sleep 60; true"])
    assert (part.state, part.note) == ("out of time", "stopped after 5 s")


def test_time_is_kept_for_the_benchmark(gpu_check, new_check):
    names = ["tests", "steps", "linear", "torch"]
    kept = sum(gpu_check.PARTS[name][1] for name in names[1:])
    check = new_check(kept + 50, *names)
    assert check.limit("tests") == pytest.approx(50, abs=1)
    assert check.limit("torch") == gpu_check.PARTS["torch"][0]
    assert sum(kept for _, kept in gpu_check.PARTS.values()) + gpu_check.PARTS["build"][0] < 480


def test_without_a_gpu_it_says_what_there_is(gpu_check, tmp_path):
    if gpu_check.query_gpu():
        pytest.skip("only a machine without a GPU is told so")
    command = [sys.executable, str(HERE / "gpu_check.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 5
    assert "nvidia-smi lists no GPU" in done.stderr
    for word in ("make: ", "g++: ", "nvcc: ", "compute-sanitizer: ", "pybind11 ", "torch "):
        assert word in done.stdout


LOSING = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_gpu(number):
    assert number != 1, "CUDA: a kernel failed: an illegal memory access (cudaErrorIllegalAddress)"
"""


def test_a_process_that_lost_its_gpu_runs_no_other_test(tmp_path, monkeypatch):
    shutil.copy(HERE.parent / "conftest.py", tmp_path)
    (tmp_path / "test_losing.py").write_text(LOSING)
    monkeypatch.setenv("PYLLMC_GPU_TESTS", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test's own
    command = [sys.executable, "-m", "pytest", "-v", "-n", "1", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.count("PASSED") == 3
    assert "[gw1]" in done.stdout  # the process that took over
    assert "an illegal memory access" in done.stdout
