"""Fixtures for every test: where the repository, the programs and the real data lie."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

# The tests run in several processes: one thread each, unless a test asks for more. Set before
# anything loads the OpenMP library, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


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
    """Folder of real text and tokenizer files that the project does not ship.

    PYLLMC_SHARED_DATA names it; the default is shared/data beside the checkout.
    """
    folder = Path(os.environ.get("PYLLMC_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing (PYLLMC_SHARED_DATA names another folder)")
    return folder


@pytest.fixture
def tiktoken_cache(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets tiktoken find GPT-2's vocabulary without network, by TIKTOKEN_CACHE_DIR."""
    folder = shared_data / "tiktoken-cache"
    if not folder.is_dir():
        pytest.skip(f"no copy of tiktoken's files: {folder} is missing")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder
