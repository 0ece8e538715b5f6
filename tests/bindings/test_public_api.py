"""The package's own names: light until used, documented, and typed as they are bound."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from apps.lab import make_lab

import pyllmc
from pyllmc import _core

PUBLIC = ("Model", "Pattern", "TokenShards", "Tokenizer", "Trainer")
STUB = {
    node.name: node
    for node in ast.parse((Path(pyllmc.__file__).parent / "_core.pyi").read_text()).body
    if isinstance(node, ast.ClassDef | ast.FunctionDef)
}
CLASSES = sorted(name for name, node in STUB.items() if isinstance(node, ast.ClassDef)
                 and not name.startswith("_"))  # fmt: skip
FUNCTIONS = sorted(name for name, node in STUB.items() if isinstance(node, ast.FunctionDef)
                   and name != "__getattr__")  # fmt: skip


def methods_of(name: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in STUB[name].body if isinstance(node, ast.FunctionDef)}


def bound_members(name: str) -> dict[str, Any]:
    """What the binding adds to a class: all but repr and what every pybind11 class has."""
    members = vars(getattr(_core, name))
    own = {key: value for key, value in members.items() if not key.startswith("_")}
    kept = {"__init__", "__dlpack__", "__dlpack_device__"}
    return own | {key: members[key] for key in kept & members.keys() if documented(members[key])}


def documented(member: Any) -> str:
    """The docstring; pybind11 gives an __init__ that nothing was bound to another one."""
    text = (getattr(member, "__func__", member).__doc__ or "").strip()
    return "" if text.startswith("Initialize self") else text


def split(doc: str) -> tuple[str, str]:
    """(signature, text) of a bound function."""
    signature, _, text = doc.partition("\n")
    return signature, text.strip()


def arguments(node: ast.FunctionDef) -> list[tuple[str, str, Any]]:
    """(kind, name, default) of each argument but self."""
    given = node.args
    defaults: list[Any] = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    found = [("any", arg.arg, value) for arg, value in zip(given.args, defaults, strict=True)]
    found += [("keyword", arg.arg, value)
              for arg, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)]  # fmt: skip
    found += [("**", given.kwarg.arg, None)] if given.kwarg else []
    return [
        (kind, name, "none" if value is None else ast.literal_eval(value))
        for kind, name, value in found
        if name != "self"
    ]


def test_importing_the_package_loads_no_core() -> None:
    script = (
        "import sys, pyllmc; assert set(pyllmc.__all__) <= set(dir(pyllmc));"
        "print(sorted({'pyllmc._core', 'numpy'} & sys.modules.keys()));"
        "pyllmc.Model; print(sorted({'pyllmc._core'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[]", "['pyllmc._core']"], "")


def test_public_names_are_the_cores() -> None:
    assert set(pyllmc.__all__) == {*PUBLIC, "__version__"}
    for name in PUBLIC:
        assert getattr(pyllmc, name) is getattr(_core, name)
    with pytest.raises(AttributeError, match="'pyllmc' has no attribute 'Muon'"):
        pyllmc.Muon  # noqa: B018


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_is_typed_and_documented(name: str) -> None:
    members = bound_members(name)
    assert members.keys() == methods_of(name).keys()
    for key, member in members.items():
        text = documented(member)
        if not isinstance(member, property):
            text = split(text)[1]
        # A class that its path alone makes is documented as a whole.
        text = text or (key == "__init__" and getattr(_core, name).__doc__) or ""
        assert len(text) > 10, key


@pytest.mark.parametrize(
    "name", [*FUNCTIONS, *(f"{c}.{m}" for c in CLASSES for m in methods_of(c))]
)
def test_the_stub_has_the_bound_signature(name: str) -> None:
    owner, _, method = name.partition(".")
    node = methods_of(owner)[method] if method else STUB[owner]
    assert isinstance(node, ast.FunctionDef)
    bound = inspect.getattr_static(getattr(_core, owner), method) if method else None
    if isinstance(bound, property):
        assert [ast.unparse(d) for d in node.decorator_list] == ["property"]
        return
    signature, _ = split(documented(bound or getattr(_core, owner)))
    actual = ast.parse(f"def {signature}: ...").body[0]
    assert isinstance(actual, ast.FunctionDef)
    assert arguments(node) == arguments(actual)


def test_the_example_of_the_package_runs(
    tmp_path: Path,
    programs: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab = make_lab(tmp_path, programs)
    lab.tokenizer("tokenizer.bin")
    _core.init_checkpoint(tmp_path / "model.bin", 32, 1, 2, 64, 260)
    rng = np.random.default_rng(1)
    for name in ("train.bin", "val.bin"):
        lab.tokens(name, rng.integers(0, 260, 3000))
    monkeypatch.chdir(tmp_path)
    assert pyllmc.__doc__ is not None
    lines = pyllmc.__doc__.splitlines()
    example = [line for line in lines if line.startswith("    ")]
    scope: dict[str, Any] = {}
    exec(textwrap.dedent("\n".join(example)), scope)
    assert len(scope["losses"]) == 10
    assert scope["tokens"] == 11 * 4 * 64  # as many batches as the file has
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(np.log(260), rel=0.05)
    header = _core.read_model_header("checkpoint.bin")
    assert (header["step"], header["fc1_bandwidth"]) == (10, [64])
    # A trainer samples as the model that it saves.
    assert scope["trainer"].sample([scope["tokenizer"].eot], 40) == scope["ids"]
