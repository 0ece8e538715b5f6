"""`pyllmc doctor`: what is installed, what was found, what is missing."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping

import click

import pyllmc
from pyllmc import programs
from pyllmc.errors import PyllmcError, UsageError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show what is installed, what was found and what is missing.

    Exits with 1 when the compiled core or a program is missing.
    """
    problems: list[str] = []
    facts = {
        "pyllmc": pyllmc.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "core": _core(problems),
        "programs": _programs(problems),
        "tiktoken": _tiktoken_cache(),
        "cuda": _cuda(),
    }
    if as_json:
        click.echo(json.dumps({"schema": 1, **facts, "problems": problems}, indent=2))
    else:
        for name, value in _lines(facts):
            click.echo(f"{name:<26}{value}")
    for problem in problems:
        click.echo(f"pyllmc: {problem}", err=True)
    ctx.exit(1 if problems else 0)


def _core(problems: list[str]) -> dict[str, object]:
    try:
        from pyllmc import _core
    except ImportError as error:
        problems.append(
            f"the compiled core cannot be loaded ({error}): run `make build` in a checkout, or "
            "reinstall pyllmc"
        )
        return {"path": None}
    facts = {"path": _core.__file__, **_core.build_info()}
    if facts["version"] != pyllmc.__version__:
        problems.append(
            f"the compiled core is of version {facts['version']}, the package of "
            f"{pyllmc.__version__}: run `make build` in a checkout, or reinstall pyllmc"
        )
    return facts


def _cuda() -> dict[str, object]:
    """What was built, what was found, what to do; none of it is needed on a machine without GPU."""
    from pyllmc.cuda_toolkit import find_toolkit

    try:
        from pyllmc import _core
    except ImportError:
        return {"library": None}
    facts = dict(_core.cuda_report())
    toolkit = find_toolkit()
    facts["toolkit"] = toolkit.problem() or f"CUDA {toolkit.version}, {toolkit.nvcc}"
    return facts


def _programs(problems: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for find in (programs.train_banded_path, programs.generate_banded_path):
        name = find.__name__.removesuffix("_path")
        try:
            found[name] = str(find())
        except PyllmcError as error:
            found[name] = None
            problems.append(str(error))
    return found


def _tiktoken_cache() -> dict[str, object]:
    from pyllmc.data.tokenizers import cache_folder, gpt2_cache

    try:
        files = {name: state for name, (_, state) in gpt2_cache().items()}
        return {"cache": str(cache_folder()), **files}
    except UsageError as error:
        return {"cache": str(error)}


def _lines(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "missing" if value is None else value
