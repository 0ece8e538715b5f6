"""Rules that hold for the repository as a whole, checked on the files that git tracks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Who may include whom in csrc/, besides itself; CUDA sources of any layer may use cuda/, too.
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "cuda": {"core"},
    "formats": {"core"},
    "sparsity": {"core"},
    "ops": {"core", "formats", "sparsity"},
    "layers": {"core", "formats", "sparsity", "ops"},
    "optim": {"core", "formats", "sparsity", "layers"},
    "models": {"core", "formats", "sparsity", "ops", "layers"},
    "train": {"core", "formats", "sparsity", "ops", "layers", "optim", "models"},
}
CUDA_ENTRY = {"runtime.cu", "tables.h"}  # the CUDA library's own: they name the kernels of all ops
# Who may import whom in pyllmc/, besides itself; cli may import all, and none imports cli.
_BASE = {"_core", "errors", "files", "programs", "terminal"}
PYTHON_LAYERS: dict[str, set[str]] = {
    "__init__": {"_core"},
    "errors": set(),
    "cuda_toolkit": set(),
    "programs": {"errors"},
    "files": {"errors"},
    "terminal": set(),
    "logs": _BASE,
    "models": _BASE,
    "data": _BASE,
    "report": {"files", "models"},  # it is handed values, never runs or logs
    "interop": _BASE | {"data", "models"},
    "experiments": _BASE | {"data", "models", "logs"},
    "sinks": _BASE | {"experiments", "logs"},
    "bench": _BASE | {"data", "models", "experiments", "report"},
}
MIB = 1 << 20


@pytest.fixture(scope="module")
def tracked(repo_root: Path) -> list[Path]:
    if not (repo_root / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repo_root, capture_output=True, text=True, check=True
    )
    files = [repo_root / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def lines(paths: list[Path]) -> Iterator[tuple[Path, int, str]]:
    for path in paths:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            yield path, number, line


def sources(repo_root: Path, *folders: str) -> list[Path]:
    found = [path for f in folders for path in (repo_root / "csrc" / f).rglob("*.[ch]*")]
    assert found
    return found


def targets(repo_root: Path) -> set[str]:
    """Every target that the Makefile declares phony, which is every one that a person types."""
    text = (repo_root / "Makefile").read_text().replace("\\\n", " ")
    declared = re.search(r"^\.PHONY:(.*)$", text, re.MULTILINE)
    assert declared
    return set(declared[1].split())


def test_no_tracked_file_exceeds_one_mib(tracked: list[Path]) -> None:
    assert [path for path in tracked if path.stat().st_size > MIB] == []


def test_no_path_of_one_machine_is_tracked(tracked: list[Path]) -> None:
    pattern = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w")
    found = [f"{path}:{n}: {line}" for path, n, line in lines(tracked) if pattern.search(line)]
    assert found == []


def test_source_archive_holds_what_is_tracked_and_nothing_ignored(
    repo_root: Path, tracked: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("setuptools")
    (tmp_path / "dist").mkdir()
    words = ["egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path / "dist"]
    subprocess.run([sys.executable, "setup.py", "-q", *words], cwd=repo_root, check=True,
                   capture_output=True)  # fmt: skip
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()} - {""}
    wanted = {path.relative_to(repo_root).as_posix() for path in tracked} - {".gitignore"}
    assert wanted - held == set()
    ignored = subprocess.run(["git", "check-ignore", "--stdin"], cwd=repo_root,
                             input="\n".join(held), capture_output=True, text=True)  # fmt: skip
    assert ignored.stdout == ""


def test_build_names_the_package_of_python_headers_that_are_missing(
    repo_root: Path, tmp_path: Path
) -> None:
    script = (
        "import runpy, sys, sysconfig\n"
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
        "sys.argv = ['setup.py', '-q', 'build_ext', '--inplace']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repo_root, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"there is no {tmp_path}/Python.h" in done.stderr
    assert "python3-dev" in done.stderr


def test_package_never_uses_pickle(repo_root: Path) -> None:
    modules = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    names = {"read_pickle", "to_pickle", "allow_pickle"}
    found = []
    for path in (repo_root / "pyllmc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            used: list[str | None] = []
            if isinstance(node, ast.Import):
                used = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                used = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.Attribute):
                used = [node.attr]
            elif isinstance(node, ast.keyword):
                used = [node.arg]
            found += [f"{path}: {name}" for name in used if name in modules | names]
    assert found == []


def endings(message: ast.expr) -> Iterator[str]:
    """What a message ends with, as far as the source says it."""
    if isinstance(message, ast.IfExp):
        yield from endings(message.body)
        yield from endings(message.orelse)
    elif isinstance(message, ast.JoinedStr) and message.values:
        yield from endings(message.values[-1])
    elif isinstance(message, ast.BinOp):
        yield from endings(message.right)
    elif isinstance(message, ast.Constant) and isinstance(message.value, str):
        yield message.value


def test_error_messages_end_without_a_full_stop(repo_root: Path) -> None:
    """As the core's do, so that a caller may add to the sentence."""
    trees = {path: ast.parse(path.read_text()) for path in (repo_root / "pyllmc").rglob("*.py")}
    classes = {node for tree in trees.values() for node in ast.walk(tree)
               if isinstance(node, ast.ClassDef)}  # fmt: skip
    errors = {"PyllmcError"}
    for _ in classes:
        errors |= {c.name for c in classes if any(ast.unparse(b) in errors for b in c.bases)}
    assert {"UsageError", "DownloadError"} <= errors
    found, seen = [], 0
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            if name not in errors | {"error"}:  # Section.error makes a UsageError
                continue
            for text in (text for argument in node.args for text in endings(argument)):
                seen += 1
                if text.endswith(".") and not text.endswith("..."):
                    found.append(f"{path}:{node.lineno}: {text}")
    assert seen > 100
    assert found == []


def test_core_never_prints_exits_or_asserts(repo_root: Path) -> None:
    pattern = re.compile(
        r"std::(cout|cerr|clog|exit|abort|terminate|printf|puts)\b|\b(stdout|stderr)\b"
        r"|(?<![\w.>:])(exit|abort|assert|printf|puts)\("
    )
    paths = sources(repo_root, *LAYERS, "bindings")
    code = ((path, n, line.split("//")[0]) for path, n, line in lines(paths))
    assert [f"{path}:{n}: {line}" for path, n, line in code if pattern.search(line)] == []


def test_core_includes_point_downwards(repo_root: Path) -> None:
    found = []
    for path, number, line in lines(sources(repo_root, *LAYERS)):
        included = re.match(r'#include "(\w+)/', line)
        if included is None:
            continue
        own = path.relative_to(repo_root / "csrc").parts[0]
        allowed = LAYERS[own] | {own} | ({"cuda"} if path.suffix in (".cu", ".cuh") else set())
        if included[1] not in allowed and not (own == "cuda" and path.name in CUDA_ENTRY):
            found.append(f"{path}:{number}: {line}")
    assert found == []


def package_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every part of pyllmc that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("pyllmc."):
                yield node.lineno, name.split(".")[1]


def test_package_imports_point_downwards(repo_root: Path) -> None:
    package = repo_root / "pyllmc"
    found, parts = [], set()
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        if own in ("cli", "__main__"):
            continue
        parts.add(own)
        allowed = PYTHON_LAYERS.get(own, set()) | {own}
        found += [f"{path}:{line}: imports {name}" for line, name in package_imports(path)
                  if name not in allowed]  # fmt: skip
    assert found == []
    assert parts == PYTHON_LAYERS.keys()


def test_no_operation_includes_another(repo_root: Path) -> None:
    found = []
    for path, number, line in lines(sources(repo_root, "ops")):
        included = re.match(r'#include "ops/(\w+)/', line)
        inside = path.relative_to(repo_root / "csrc" / "ops").parts
        if included and len(inside) > 1 and included[1] != inside[0]:
            found.append(f"{path}:{number}: {line}")
    assert found == []


def test_make_help_lists_every_target(repo_root: Path) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    named = set()
    for line in listed.splitlines():
        made = re.match(r"  make ((?:[\w-]+ )+) +\S", line)
        assert made, line
        named |= set(made[1].split())
    assert named == targets(repo_root)


def test_readme_names_only_targets_that_exist(repo_root: Path) -> None:
    text = (repo_root / "README.md").read_text()
    commands = re.findall(r"(?:`|^\s*\$? ?)make ([a-z_ -]+)", text, re.MULTILINE)
    used = {word for command in commands for word in command.split()}
    assert {"demo", "test"} <= used <= targets(repo_root)


def test_readme_names_every_environment_variable(repo_root: Path) -> None:
    sources = [
        repo_root / "setup.py",
        *(repo_root / "csrc").rglob("*.cpp"),
        *(repo_root / "pyllmc").rglob("*.py"),
    ]
    reading = re.compile(r'(?:getenv\(|environ\.get\(|environ\[)"(PYLLMC_\w+)"')
    read = {name for path in sources for name in reading.findall(path.read_text())}
    assert read > {"PYLLMC_CUDA", "PYLLMC_ISA", "PYLLMC_LOCKS"}
    text = (repo_root / "README.md").read_text()
    assert {name for name in read if name not in text} == {"PYLLMC_FAULT"}  # builds for tests only


def test_ci_runs_the_tests_as_the_readme_does(repo_root: Path) -> None:
    script = (repo_root / ".ci" / "run").read_text()
    assert "make test ||" in script
    assert "make lint ||" in script
    assert "make asan fuzz " in script
