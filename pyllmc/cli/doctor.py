"""`pyllmc doctor`: what is installed, what was found, what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

import pyllmc
from pyllmc import programs
from pyllmc.errors import PyllmcError

# What tiktoken's gpt2 encoding loads; its cache names a file by the SHA-1 of its address.
GPT2_FILES = tuple(
    f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}"
    for name in ("vocab.bpe", "encoder.json")
)


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
        "cuda": "not built in this version",
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
    """Where tiktoken keeps its files (its own rule; empty: nowhere), and if GPT-2's are there."""
    variables = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
    named_by = next((name for name in variables if name in os.environ), None)
    folder = os.environ[named_by] if named_by else f"{tempfile.gettempdir()}/data-gym-cache"
    cached = folder and all(
        (Path(folder) / hashlib.sha1(url.encode()).hexdigest()).is_file() for url in GPT2_FILES
    )
    return {
        "cache": folder or "none",
        "cache_named_by": named_by or "tiktoken's default",
        "gpt2": "cached" if cached else "not cached: the first use downloads 1.5 MB",
    }


def _lines(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "missing" if value is None else value
