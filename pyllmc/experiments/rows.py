"""The rows of a matrix file: one [[run]] each, one run for every learning rate it lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from pyllmc.experiments.experiment import Data, Model, Run
from pyllmc.experiments.section import Section
from pyllmc.experiments.settings import SETTINGS, Setting, Value

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
_BANDS = ("fc1_bandwidth", "fc2_bandwidth")


def read_row(
    file: Path,
    number: int,
    entry: Mapping[str, Any],
    common: Mapping[str, Any],
    data: Data,
    model: Model,
    baseline: str,
) -> Iterator[Run]:
    """The runs of the file's [[run]] `number`, with `common`, `data` and `model` below its own.

    Raises UsageError with file and key.
    """
    section = Section(file, f"[[run]] {number}", entry)
    section.allow(("name", "label", "baseline", "data", "model", *SETTINGS))
    arm = section.get("name", str, required=True)
    if not SAFE_NAME.fullmatch(arm) or re.search(r"_s\d+$", arm):
        raise section.error(
            "name",
            f"is {arm!r}; it must be letters, digits and _ . + - only, "
            "and must not end in _s<number>, which marks a seed",
        )
    merged = Section(file, f"[[run]] {arm}", {**common, **entry})
    own_model = Section(file, f"[[run]] {arm} model", section.get("model", dict, {}))
    own_model.allow(("hidden", "mlp_rank"))
    model = mlp_shape(own_model, model)
    settings: dict[str, Any] = {}
    for setting in SETTINGS.values():
        value = _value(merged, setting, model.layers)
        if value is not None:
            settings[setting.name] = value
    _check(merged, settings, model)
    own_data = Section(file, f"[[run]] {arm} data", section.get("data", dict, {}))
    label = section.line("label", arm)
    run = Run(
        name=arm,
        label=label,
        settings=settings,
        data=read_data(own_data, data),
        baseline=section.get("baseline", str, baseline),
        arm=arm,
        model=model,
    )
    rates = merged.table.get("learning_rate")
    if not isinstance(rates, list):
        yield run
        return
    for rate in _rates(merged, rates):
        text = rate_text(rate)
        yield replace(
            run,
            name=f"{arm}_lr{text}",
            label=f"{label}, lr {text}",
            settings={**settings, "learning_rate": rate},
        )


def rate_text(rate: float) -> str:
    """A learning rate as names have it: 0.001 is "1e-3", 0.00025 is "2.5e-4"."""
    digits, exponent = f"{rate:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def mlp_shape(section: Section, model: Model) -> Model:
    """The model with the section's `hidden` and `mlp_rank` in place."""
    hidden = section.number("hidden", int, model.hidden, low=1)
    rank = section.number("mlp_rank", int, model.mlp_rank, low=0)
    model = replace(model, hidden=hidden, mlp_rank=rank)
    most = min(model.channels, model.hidden_width)
    if rank > most:
        raise section.error(
            "mlp_rank",
            f"is {rank}; it must be at most {most}, the shorter side of the weight",
        )
    return model


def read_data(section: Section, common: Data | None) -> Data:
    """Token files, those of `common` for what the section does not name."""
    section.allow(("train", "val", "test", "prepare"))
    if common is not None:
        given = {key: section.get(key, str) for key in section.table}
        if given and "prepare" not in given:
            given["prepare"] = None
        if "train" in given and "test" not in given:
            given["test"] = None
        data = replace(common, **given)
    else:
        data = Data(
            section.get("train", str, required=True),
            section.get("val", str, required=True),
            section.get("test", str),
            section.get("prepare", str),
        )
    if "prepare" in section.table:
        section.choice("prepare", ("ministories", "random"), None)
        made = f"{data.prepare}_train.bin"
        if PurePath(data.train).name != made:
            raise section.error("train", f"is {data.train!r}; prepare makes {made}")
    return data


def _value(section: Section, setting: Setting, layers: int) -> Value | None:
    """The section's value of a setting, None when it has none or is an axis of several."""
    given = section.table.get(setting.name)
    if isinstance(given, list) and setting.axis:
        return None
    if isinstance(given, list) and setting.by_layer:
        if len(given) != layers:
            raise section.error(
                setting.name,
                f"lists {len(given)} values; it must be one, or one a layer ({layers})",
            )
        return tuple(_number(section, setting, one) for one in given)
    if setting.kind is str:
        value: Value | None = section.choice(setting.name, setting.choices, None)
    else:
        value = section.number(
            setting.name,
            setting.kind,
            low=setting.low,
            high=setting.high,
            above=setting.above,
            required=setting.required,
        )
    return float(value) if setting.kind is float and isinstance(value, int) else value


def _number(section: Section, setting: Setting, value: object) -> Any:
    """One element of a list of numbers."""
    alone = Section(section.file, section.name, {setting.name: value})
    return alone.number(
        setting.name, setting.kind, low=setting.low, high=setting.high, above=setting.above
    )


def _rates(section: Section, rates: list[object]) -> list[float]:
    setting = SETTINGS["learning_rate"]
    values = [float(_number(section, setting, rate)) for rate in rates]
    if not values or len({rate_text(value) for value in values}) != len(values):
        raise section.error(
            "learning_rate", f"is {rates}; a list names at least one rate, each once"
        )
    return values


def _check(section: Section, settings: Mapping[str, Any], model: Model) -> None:
    """Refuses settings that cannot go together."""
    length = int(settings["sequence_length"])
    if length > model.context:
        raise section.error(
            "sequence_length", f"is {length}, more than [model] context {model.context}"
        )
    banded = [key for key in _BANDS if settings.get(key, 0) not in (0, (0,) * model.layers)]
    if model.mlp_rank and banded:
        raise section.error(
            banded[0], f"is not 0, but mlp_rank is {model.mlp_rank}; a low-rank weight has no band"
        )
    if settings.get("pattern", "band") != "band" and not banded:
        raise section.error(
            "pattern",
            f"is {settings['pattern']!r}, but both bandwidths are 0; a bandwidth says how many "
            "weights it keeps",
        )
    if settings.get("init_scale", "none") != "none" and settings.get("mask_init", 1) == 0:
        raise section.error(
            "init_scale",
            f"is {settings['init_scale']!r}, but mask_init is 0; only masked weights are scaled",
        )
