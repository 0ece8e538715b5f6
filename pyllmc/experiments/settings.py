"""The training settings that a matrix file may give, and how each is written for train_banded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One key of `[train]`, named as train_banded's long option with underscores.

    `default` is train_banded's own; `low` the smallest value allowed (`above` if it is excluded).
    `numbers` says whether the setting may change the logged numbers, and so is part of a cell's
    identity.
    """

    name: str
    kind: type
    default: int | float | None
    low: float
    high: float | None = None
    short: str | None = None
    above: bool = False
    required: bool = False
    numbers: bool = True

    @property
    def flag(self) -> str:
        """The short option where there is one, else the long one."""
        return self.short or "--" + self.name.replace("_", "-")


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("fc1_bandwidth", int, 0, 0, short="-1"),
        Setting("fc2_bandwidth", int, 0, 0, short="-2"),
        Setting("steps", int, None, 1, short="-n", required=True),
        Setting("batch_size", int, None, 1, short="-b", required=True),
        Setting("sequence_length", int, None, 1, short="-t", required=True),
        Setting("learning_rate", float, 3e-4, 0, short="-l", above=True),
        Setting("val_every", int, 20, 0, short="-v"),
        Setting("val_batches", int, 20, 1, short="-m"),
        Setting("sample_every", int, 20, 0, short="-s", numbers=False),
        Setting("sample_length", int, 64, 0, short="-g", numbers=False),
        Setting("checkpoint_every", int, 0, 0, short="-k", numbers=False),
        Setting("mask_init", int, 1, 0, high=1),
        Setting("warmup", int, 0, 0),
        Setting("min_lr", float, None, 0),
        Setting("weight_decay", float, 0.0, 0),
        Setting("grad_clip", float, 0.0, 0),
        Setting("accumulate", int, 1, 1),
        Setting("data_seed", int, 42, 0),
        Setting("threads", int, None, 1, numbers=False),
    )
}


def resolve(given: Mapping[str, object], seed: int | None) -> dict[str, object]:
    """Every setting that may change a run's numbers, defaults filled in.

    A cell's `seed` is the data order's too, unless `given` has its own.
    """
    resolved: dict[str, object] = {}
    for setting in SETTINGS.values():
        if setting.numbers:
            default: object = setting.default
            if seed is not None and setting.name == "data_seed":
                default = seed
            value = given.get(setting.name, default)
            resolved[setting.name] = (
                float(value) if isinstance(value, int) and (setting.kind is float) else value
            )
    return resolved
