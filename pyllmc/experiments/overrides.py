"""`--set key=value`: values from the command line that replace those of a matrix file."""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from pyllmc.errors import UsageError
from pyllmc.experiments.settings import SETTINGS

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "train": tuple(SETTINGS),
    "data": ("train", "val", "test", "prepare"),
    "model": (
        *("channels", "layers", "heads", "context", "vocab"),
        *("hidden", "mlp_rank", "init", "seed"),
    ),
    "margin": ("nats",),
}
_TOP = ("seeds", "baseline")


def parse_overrides(words: Iterable[str]) -> dict[str, object]:
    """`["steps=60", "data.train=x.bin"]` as a mapping: TOML values where they are, else text.

    An empty value (`data.test=`) is None and takes the key away. Raises UsageError.
    """
    overrides: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"--set {word!r} has no value; write it as key=value, for example --set steps=60"
            )
        overrides[key.strip()] = _value(text.strip())
    return overrides


def _value(text: str) -> object:
    if not text:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def apply_overrides(
    file: object, table: Mapping[str, Any], overrides: Mapping[str, object]
) -> dict[str, Any]:
    """A copy of the matrix file's `table` with `overrides` in place.

    A training setting replaces the common one and every run's own. Raises UsageError for a key
    that no override has. Other training data take the test data and `prepare` away, which belong
    to the file's own.
    """
    result = copy.deepcopy(dict(table))
    if "data.train" in overrides:
        overrides = {"data.test": None, "data.prepare": None, **overrides}
    for key, value in overrides.items():
        section, name = _target(key)
        if section == "":
            _put(result, name, value)
            continue
        target = result.setdefault(section, {})
        if not isinstance(target, dict):
            raise UsageError(f"{file}: {section} is {target!r}; it must be a table")
        _put(target, name, value)
        runs = result.get("run")
        if section == "train" and isinstance(runs, list):
            for run in runs:
                if isinstance(run, dict):
                    run.pop(name, None)
    return result


def _put(table: dict[str, Any], key: str, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _target(key: str) -> tuple[str, str]:
    section, dot, name = key.partition(".")
    if not dot:
        section, name = ("", key) if key in _TOP else ("train", key)
    if (section == "" and name in _TOP) or name in _SECTIONS.get(section, ()):
        return section, name
    known = [f"{part}.{k}" for part, keys in _SECTIONS.items() for k in keys]
    near = difflib.get_close_matches(key, [*known, *SETTINGS, *_TOP], n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else "it takes train.KEY (or plain KEY), data.KEY, model.KEY, margin.nats, seeds, baseline"
    )
    raise UsageError(f"--set {key!r} is not a setting; {hint}")
