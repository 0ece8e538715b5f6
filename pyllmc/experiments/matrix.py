"""Reading the matrix file (schema 1)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyllmc.errors import UsageError
from pyllmc.experiments.experiment import Cell, Data, Expectation, Matrix, Model, Run, Weights
from pyllmc.experiments.overrides import apply_overrides
from pyllmc.experiments.rows import SAFE_NAME, mlp_shape, read_data, read_row
from pyllmc.experiments.section import SEED_MAX, Section
from pyllmc.experiments.settings import SETTINGS

__all__ = [
    "Cell",
    "Data",
    "Expectation",
    "Matrix",
    "Model",
    "Run",
    "Weights",
    "load_matrix",
]

FILE_NAME = "matrix.toml"
_TOP_KEYS = (
    "schema",
    "title",
    "description",
    "questions",
    "baseline",
    "reference",
    "expectations",
    "seeds",
    "margin",
    "data",
    "model",
    "train",
    "run",
)
_EXPECTATION_KEYS = ("text", "run", "against", "low_percent", "high_percent")
_DIMENSIONS = ("channels", "layers", "heads", "context", "vocab")


def load_matrix(
    folder: Path, overrides: Mapping[str, object] | None = None, out: Path | None = None
) -> Matrix:
    """Reads and checks `folder`/matrix.toml.

    `overrides` maps `train.steps` (or plain `steps`), `data.train`, `model.channels`, `seeds` to
    values that replace the file's. `out` is where results go, the folder itself when absent.
    Raises UsageError with file and key.
    """
    folder = Path(folder)
    file = folder / FILE_NAME
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} holds no {FILE_NAME}; give an experiment's folder "
            "(`pyllmc matrix list` shows those below runs/)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from None
    return _matrix(folder, file, apply_overrides(file, table, overrides or {}), out or folder)


def _matrix(folder: Path, file: Path, table: Mapping[str, Any], out: Path) -> Matrix:
    top = Section(file, "", table)
    top.allow(_TOP_KEYS)
    if top.get("schema", int, required=True) != 1:
        raise top.error("schema", f"is {table['schema']}; this version of pyllmc reads schema 1")
    data = read_data(Section(file, "[data]", top.get("data", dict, required=True)), None)
    model = _model(Section(file, "[model]", top.get("model", dict, required=True)))
    common = Section(file, "[train]", top.get("train", dict, required=True))
    if "label" in common.table or "name" in common.table:
        raise common.error("name", "belongs to a [[run]]; [train] holds settings only")
    common.allow(SETTINGS)

    baseline = top.get("baseline", str, required=True)
    runs: list[Run] = []
    for number, entry in enumerate(top.tables("run"), start=1):
        for run in read_row(file, number, entry, common.table, data, model, baseline):
            if any(run.name.lower() == other.name.lower() for other in runs):
                raise UsageError(
                    f"{file}: [[run]] name {run.name!r} is used twice; names must differ"
                )
            runs.append(run)
    if not runs:
        raise top.error("run", "is missing; a matrix needs at least one [[run]]")
    arms = list(dict.fromkeys(run.arm for run in runs))
    names = list(dict.fromkeys([*arms, *(run.name for run in runs)]))
    _known_run(top, "baseline", baseline, arms)
    for run in runs:
        _known_run(Section(file, f"[[run]] {run.arm}", {}), "baseline", run.baseline, arms)

    reference = top.get("reference", str)
    if reference is not None and not (folder / reference).is_file():
        raise top.error("reference", f"is {reference!r}, but there is no {folder / reference}")
    return Matrix(
        folder=folder,
        out=out,
        title=top.line("title", required=True),
        description=" ".join(top.get("description", str, required=True).split()),
        questions=top.texts("questions"),
        baseline=baseline,
        reference=None if reference is None else folder / reference,
        expectations=tuple(
            _expectation(file, number, entry, names)
            for number, entry in enumerate(top.tables("expectations"), start=1)
        ),
        seeds=_seeds(top),
        data=data,
        model=model,
        runs=tuple(runs),
        margin=_margin(Section(file, "[margin]", top.get("margin", dict, {}))),
    )


def _margin(section: Section) -> float | None:
    section.allow(("nats",))
    if not section.table:
        return None
    return float(section.number("nats", float, low=0, above=True, required=True))


def _model(section: Section) -> Model:
    section.allow(("file", *_DIMENSIONS, "hidden", "mlp_rank", "init", "seed"))
    name = section.get("file", str, "model.bin")
    if not SAFE_NAME.fullmatch(name):
        raise section.error("file", f"is {name!r}; it must be a plain file name")
    model = Model(
        file=name,
        init=section.choice("init", ("gpt2", "original"), "gpt2"),
        seed=section.number("seed", int, 1337, low=0, high=SEED_MAX),
        **{key: section.number(key, int, low=1, required=True) for key in _DIMENSIONS},
    )
    model = mlp_shape(section, model)
    if model.channels % model.heads:
        raise section.error(
            "channels",
            f"is {model.channels}, not a multiple of heads "
            f"{model.heads}; every head needs the same width",
        )
    return model


def _expectation(
    file: Path, number: int, entry: Mapping[str, Any], names: list[str]
) -> Expectation:
    section = Section(file, f"[[expectations]] {number}", entry)
    section.allow(_EXPECTATION_KEYS)
    run = section.get("run", str, required=True)
    against = section.get("against", str, required=True)
    _known_run(section, "run", run, names)
    _known_run(section, "against", against, names)
    low = section.number("low_percent", float, low=-100)
    high = section.number("high_percent", float, low=-100)
    if low is None and high is None:
        raise section.error("low_percent", "and high_percent are both missing; give at least one")
    if low is not None and high is not None and low > high:
        raise section.error("low_percent", f"is {low}, more than high_percent {high}")
    return Expectation(section.line("text", required=True), run, against, low, high)


def _seeds(top: Section) -> tuple[int | None, ...]:
    seeds = top.get("seeds", list)
    if seeds is None:
        return (None,)
    if not seeds or len(set(map(repr, seeds))) != len(seeds):
        raise top.error("seeds", f"is {seeds}; it must name at least one seed, each once")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= SEED_MAX:
            raise top.error(
                "seeds", f"holds {seed!r}; a seed is a whole number from 0 to {SEED_MAX}"
            )
    return tuple(seeds)


def _known_run(section: Section, key: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise section.error(key, f"is {name!r}, but the runs are {', '.join(names)}")
