"""The training settings that a matrix file may give, and how each is written for train_banded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyllmc.experiments.section import SEED_MAX

# A setting's value; bandwidths that differ by layer are a tuple.
Value = int | float | str | tuple[int, ...]

PATTERNS = ("band", "random", "block", "band-permuted-residual", "band-permuted-hidden")


@dataclass(frozen=True)
class Setting:
    """One key of `[train]`, named as train_banded's long option with underscores.

    `default` is train_banded's own; `low` the smallest value allowed (`above` if it is excluded),
    `high` the largest; a text is one of `choices`. `by_layer` allows a list of one value a layer,
    `axis` one of values that each make an arm of their own. `numbers` says whether the setting may
    change the logged numbers, and so is part of a cell's identity; one that is `quiet` is left out
    of it while it has its default, so that cells from before it existed stay the same.
    """

    name: str
    kind: type
    default: int | float | str | None
    low: float = 0
    high: float | None = None
    short: str | None = None
    above: bool = False
    required: bool = False
    numbers: bool = True
    quiet: bool = False
    by_layer: bool = False
    axis: bool = False
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The short option where there is one, else the long one."""
        return self.short or "--" + self.name.replace("_", "-")

    def words(self, value: Value) -> list[str]:
        """The option and its value."""
        values = value if isinstance(value, tuple) else (value,)
        return [self.flag, ",".join(str(one) for one in values)]


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("fc1_bandwidth", int, 0, 0, short="-1", by_layer=True),
        Setting("fc2_bandwidth", int, 0, 0, short="-2", by_layer=True),
        Setting("pattern", str, "band", quiet=True, choices=PATTERNS),
        Setting("mask_seed", int, 1337, high=SEED_MAX, quiet=True),
        Setting("init_scale", str, "none", quiet=True, choices=("none", "inverse-sqrt-density")),
        Setting("steps", int, None, 1, short="-n", required=True),
        Setting("batch_size", int, None, 1, short="-b", required=True),
        Setting("sequence_length", int, None, 1, short="-t", required=True),
        Setting("learning_rate", float, 3e-4, 0, short="-l", above=True, axis=True),
        Setting("val_every", int, 20, 0, short="-v"),
        Setting("val_batches", int, 20, 1, short="-m"),
        Setting("train_eval_batches", int, 0, quiet=True),
        Setting("sample_every", int, 20, 0, short="-s", numbers=False),
        Setting("sample_length", int, 64, 0, short="-g", numbers=False),
        Setting("checkpoint_every", int, 0, 0, short="-k", numbers=False),
        Setting("mask_init", int, 1, 0, high=1),
        Setting("execution", str, "band", quiet=True, choices=("band", "mask")),
        Setting("precision", str, "fp32", quiet=True, choices=("fp32", "bf16", "tf32")),
        Setting("warmup", int, 0, 0),
        Setting("min_lr", float, None, 0),
        Setting("weight_decay", float, 0.0, 0),
        Setting("grad_clip", float, 0.0, 0),
        Setting("accumulate", int, 1, 1),
        Setting("init_seed", int, None, high=SEED_MAX, quiet=True),
        Setting("data_seed", int, 42, 0, high=SEED_MAX),
        Setting("threads", int, None, 1, high=4096, numbers=False),
        Setting("device", str, "auto", numbers=False, choices=("auto", "cpu", "cuda")),
    )
}


def resolve(given: Mapping[str, Any], seed: int | None) -> dict[str, object]:
    """Every setting that may change a run's numbers, defaults filled in.

    A cell's `seed` is the data order's too, unless `given` has its own.
    """
    resolved: dict[str, object] = {}
    for setting in SETTINGS.values():
        if not setting.numbers:
            continue
        default = seed if seed is not None and setting.name == "data_seed" else setting.default
        value = given.get(setting.name, default)
        if setting.quiet and value == setting.default:
            continue
        if isinstance(value, tuple):
            resolved[setting.name] = list(value)
        elif isinstance(value, int) and setting.kind is float:
            resolved[setting.name] = float(value)
        else:
            resolved[setting.name] = value
    return resolved
