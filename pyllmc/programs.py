"""Where the compiled programs lie, and the console scripts that become them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from pyllmc.errors import PyllmcError

_FOLDER = Path(__file__).parent / "bin"


def train_banded_path() -> Path:
    """The trainer. Raises PyllmcError when it was not built."""
    return _find("train_banded")


def generate_banded_path() -> Path:
    """The text generator. Raises PyllmcError when it was not built."""
    return _find("generate_banded")


def exec_train_banded() -> NoReturn:
    """Console script `train_banded`: the process becomes the program."""
    _exec("train_banded")


def exec_generate_banded() -> NoReturn:
    """Console script `generate_banded`: the process becomes the program."""
    _exec("generate_banded")


def how_ended(code: int) -> str:
    """What became of a program that returned this code; minus a number is a signal's."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def _find(name: str) -> Path:
    path = _FOLDER / name
    if not os.access(path, os.X_OK):
        raise PyllmcError(
            f"the program {path} is missing: run `make build` in a checkout, or reinstall pyllmc"
        )
    return path


def _exec(name: str) -> NoReturn:
    try:
        path = _find(name)
    except PyllmcError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    os.execv(path, [name, *sys.argv[1:]])
