"""An experiment on synthetic losses (tests/report/golden) to copy, spoil and report on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyllmc.cli import main
from pyllmc.cli.report import load_experiment
from pyllmc.experiments.matrix import load_matrix
from pyllmc.report.outcomes import Outcomes
from pyllmc.report.readme import render

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy to change: matrix.toml, reference.csv, logs/."""
    folder = tmp_path / "experiment"
    shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("charts", "README.md"))
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its report, to look at and not to change."""
    folder = tmp_path_factory.mktemp("drawn") / "experiment"
    shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("charts", "README.md"))
    assert invoke(folder).exit_code == 0
    return folder


@pytest.fixture
def report() -> Callable[[Path], str]:
    """The README's text for a folder, without drawing (drawing takes a second)."""

    def read(folder: Path) -> str:
        experiment = load_experiment(load_matrix(folder))
        return render(experiment, Outcomes(experiment), {})

    return read


@pytest.fixture
def draw() -> Callable[..., str]:
    """Runs `pyllmc report` and returns the README's text."""

    def run(folder: Path, *arguments: object) -> str:
        result = invoke(folder, *arguments)
        assert result.exit_code == 0, result.output
        return Path(result.stdout.strip()).read_text(encoding="utf-8")

    return run


def invoke(folder: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", str(folder), *map(str, arguments)])


@pytest.fixture
def run_report() -> Callable[..., Result]:
    """Runs `pyllmc report` and returns what click saw."""
    return invoke


@pytest.fixture
def row() -> Callable[[str, str, str], list[str]]:
    """The cells of the table row that begins with `first`, below the heading `heading`."""

    def find(text: str, heading: str, first: str) -> list[str]:
        section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells and cells[0] == first:
                return cells[1:]
        raise AssertionError(f"no row {first!r} below {heading!r} in\n{section}")

    return find
