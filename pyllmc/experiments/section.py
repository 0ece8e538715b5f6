"""Strict reading of one TOML table: every key is asked for, what nobody asked for is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pyllmc.errors import UsageError

# The largest whole number and the largest seed that the core takes.
WHOLE_MAX = 2**31 - 1
SEED_MAX = 2**32 - 1

_KINDS = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


class Section:
    """The table `name` of `file`. Its errors are one-sentence UsageErrors with file and key."""

    def __init__(self, file: object, name: str, table: Mapping[str, Any]) -> None:
        self.file = file
        self.name = name
        self.table = table

    def where(self, key: str) -> str:
        """The key with its table: `[train] steps`."""
        return f"{self.name} {key}".strip()

    def error(self, key: str, message: str) -> UsageError:
        """An error about `key`, to be raised."""
        return UsageError(f"{self.file}: {self.where(key)} {message}")

    def allow(self, keys: Iterable[str]) -> None:
        """Refuses every key that is not among `keys`, naming the nearest that is."""
        known = sorted(keys)
        for key in self.table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
                raise self.error(key, f"is not a key of a matrix file; {hint}")

    def get(self, key: str, kind: type, default: Any = None, *, required: bool = False) -> Any:
        """The value of `key`, which must be of `kind` (a whole number passes for a number)."""
        if key not in self.table:
            if required:
                raise self.error(key, f"is missing; it must be {_KINDS[kind]}")
            return default
        value = self.table[key]
        wanted = (int, float) if kind is float else kind
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise self.error(key, f"is {value!r}; it must be {_KINDS[kind]}")
        if isinstance(value, str) and not value.strip():
            raise self.error(key, "is empty; leave the key out or give it a value")
        return value

    def line(self, key: str, default: Any = None, *, required: bool = False) -> Any:
        """A text without line ends."""
        value = self.get(key, str, default, required=required)
        if value is not None and not value.isprintable():
            raise self.error(key, f"is {value!r}; it must be one line of printable text")
        return value

    def number(
        self,
        key: str,
        kind: type,
        default: Any = None,
        *,
        low: float,
        high: float | None = None,
        above: bool = False,
        required: bool = False,
    ) -> Any:
        """A number of at least `low` (greater than it if `above`) and at most `high`, which for a
        whole number is WHOLE_MAX unless given."""
        if kind is int and high is None:
            high = WHOLE_MAX
        value = self.get(key, kind, default, required=required)
        if key not in self.table:
            return value
        if not (value > low if above else value >= low) or (high is not None and value > high):
            bounds = f"greater than {low}" if above else f"at least {low}"
            if high is not None:
                bounds = f"from {low} to {high}"
            raise self.error(key, f"is {value}; it must be {bounds}")
        if value == float("inf"):
            raise self.error(key, "is inf; it must be finite")
        return value

    def choice(self, key: str, options: Iterable[str], default: str | None) -> Any:
        """One of `options`."""
        value = self.get(key, str, default)
        if value is not None and value not in options:
            raise self.error(key, f"is {value!r}; it must be one of {', '.join(options)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty when the key is absent."""
        values = self.get(key, list, [])
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"holds {value!r}; it must be a list of texts")
        return tuple(values)

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        """A list of tables (`[[key]]`), empty when the key is absent."""
        values = self.get(key, list, [])
        for value in values:
            if not isinstance(value, dict):
                raise self.error(key, f"holds {value!r}; it must be a list of tables")
        return list(values)
