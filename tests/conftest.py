"""Fixtures for every test: where the repository, the programs and the real data lie."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

# The tests run in several processes: one thread each, unless a test asks for more. Set before
# anything loads the OpenMP library, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs
# that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

SHARED_DATA = "PYLLMC_SHARED_DATA"

# Tests of the CPU stay there, on a machine with a GPU too: what asks for CUDA uses a fixture below.
LIBRARY = ROOT / "pyllmc" / "libpyllmc_cuda.so"
os.environ["PYLLMC_CUDA_LIBRARY"] = str(ROOT / "build" / "no-cuda-library.so")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what computes on CUDA, so that `-m gpu` picks it."""
    for item in items:
        chosen = getattr(getattr(item, "callspec", None), "params", {}).get("device")
        asked = {"cuda", "cuda_environment"} & set(getattr(item, "fixturenames", ()))
        if asked or chosen == "cuda":
            item.add_marker("gpu")


# Errors after which a process can do no more on its GPU.
LOST_CONTEXT = re.compile(
    r"cudaError(IllegalAddress|IllegalInstruction|MisalignedAddress|InvalidAddressSpace|InvalidPc"
    r"|LaunchFailure|LaunchTimeout|Assert|HardwareStackError)"
)
lost_context = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    global lost_context
    lost_context |= report.failed and bool(LOST_CONTEXT.search(report.longreprtext))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Ends a worker that has lost its GPU, after its report: another takes over the other tests."""
    if lost_context and {"PYTEST_XDIST_WORKER", "PYLLMC_GPU_TESTS"} <= os.environ.keys():
        os._exit(1)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout's folder."""
    return ROOT


@pytest.fixture(scope="session")
def programs() -> SimpleNamespace:
    """Paths of the built programs: `.train_banded` and `.generate_banded`."""
    from pyllmc.programs import generate_banded_path, train_banded_path

    return SimpleNamespace(train_banded=train_banded_path(), generate_banded=generate_banded_path())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real text and tokenizer files that the project does not ship: tinyshakespeare.txt,
    tinystories_sample.txt, tiktoken-cache/.

    PYLLMC_SHARED_DATA names it; the default is shared/data beside the checkout.
    """
    folder = Path(os.environ.get(SHARED_DATA, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set {SHARED_DATA} to the folder that holds it")
    return folder


@pytest.fixture
def tiktoken_cache(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets tiktoken find GPT-2's vocabulary without network, by TIKTOKEN_CACHE_DIR."""
    folder = shared_data / "tiktoken-cache"
    if not folder.is_dir():
        pytest.skip(
            f"no copy of tiktoken's files in {folder}: make one by TIKTOKEN_CACHE_DIR={folder} and "
            "tiktoken.get_encoding('gpt2')"
        )
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def emulation() -> Path:
    """Folder of the CUDA library whose kernels are compiled for the CPU; built when it is old."""
    from pyllmc import __version__

    build = ROOT / "build" / "cuda_emulation"
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:  # one process builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        make = ["make", "-s", "-j2", "-C", str(ROOT / "tests" / "cuda_emulation")]
        subprocess.run([*make, f"BUILD={build}", f"PYLLMC_VERSION={__version__}"], check=True)
    return build


@pytest.fixture(scope="session")
def cuda_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a child process needs to see the device of `cuda`."""
    if os.environ.get("PYLLMC_GPU_TESTS") == "1":
        return {"PYLLMC_CUDA_LIBRARY": str(LIBRARY)}
    library = request.getfixturevalue("emulation") / "libpyllmc_cuda_emulated.so"
    return {"PYLLMC_CUDA_LIBRARY": str(library)}


@pytest.fixture(scope="session")
def cuda(request: pytest.FixtureRequest) -> str:
    """The device "cuda" of this process: a GPU where PYLLMC_GPU_TESTS=1, else its emulation."""
    from pyllmc._core import ops

    with pytest.MonkeyPatch.context() as patch:
        for name, value in request.getfixturevalue("cuda_environment").items():
            patch.setenv(name, value)
        # The first ask opens the library for good. Children of the tests shall not see it.
        ops.embedding_forward([[0]], [[0.0]], [[0.0]], device="cuda")
    return "cuda"


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that ops run on."""
    return str(request.getfixturevalue("cuda") if request.param == "cuda" else request.param)
