"""The matrix file (schema 1): one experiment, its runs and its cells."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pyllmc.errors import UsageError
from pyllmc.experiments.overrides import apply_overrides
from pyllmc.experiments.section import Section
from pyllmc.experiments.settings import SETTINGS

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
    "data",
    "model",
    "train",
    "run",
)
_EXPECTATION_KEYS = ("text", "run", "against", "low_percent", "high_percent")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")


@dataclass(frozen=True)
class Data:
    """Token files, relative to the working directory; `train` and `val` may be globs of shards.

    `prepare` names the built-in data that is made when the files are missing.
    """

    train: str
    val: str
    test: str | None = None
    prepare: str | None = None


@dataclass(frozen=True)
class Model:
    """How the initial weights are made when `file` (in the output folder) is missing."""

    channels: int
    layers: int
    heads: int
    context: int
    vocab: int
    init: str = "gpt2"
    seed: int = 1337
    file: str = "model.bin"


@dataclass(frozen=True)
class Run:
    """One row of the matrix: common settings with the run's own on top.

    `baseline` names the run that this one is compared with (the matrix's, unless the run says
    otherwise); `data` is the matrix's with the run's own on top.
    """

    name: str
    label: str
    settings: Mapping[str, int | float]
    data: Data
    baseline: str

    @property
    def fc1_bandwidth(self) -> int:
        """Bandwidth of the up-projection on the hidden axis, 0 = dense."""
        return int(self.settings.get("fc1_bandwidth", 0))

    @property
    def fc2_bandwidth(self) -> int:
        """Bandwidth of the down-projection on the hidden axis, 0 = dense."""
        return int(self.settings.get("fc2_bandwidth", 0))


@dataclass(frozen=True)
class Expectation:
    """A prediction: the final validation loss of `run` is from `low_percent` to `high_percent`
    above that of the run `against` (an open side is None)."""

    text: str
    run: str
    against: str
    low_percent: float | None
    high_percent: float | None


@dataclass(frozen=True)
class Cell:
    """One training run: a row of the matrix under one seed (None: the program's defaults)."""

    run: Run
    seed: int | None

    @property
    def name(self) -> str:
        """`<run>`, or `<run>_s<seed>`; names the cell's folder, log and checkpoint."""
        return self.run.name if self.seed is None else f"{self.run.name}_s{self.seed}"


@dataclass(frozen=True)
class Matrix:
    """A checked matrix file. Everything that a run leaves behind lies under `out`."""

    folder: Path
    out: Path
    title: str
    description: str
    questions: tuple[str, ...]
    baseline: str
    reference: Path | None
    expectations: tuple[Expectation, ...]
    seeds: tuple[int | None, ...]
    data: Data
    model: Model
    runs: tuple[Run, ...]

    def cells(self) -> Iterator[Cell]:
        """Every (run, seed), seeds outermost, so that a stopped matrix holds whole seeds."""
        for seed in self.seeds:
            for run in self.runs:
                yield Cell(run, seed)

    def log_path(self, run: Run, seed: int | None) -> Path:
        """The log in llm.c's lines; its full-precision twin has the suffix .jsonl."""
        return self.out / "logs" / f"log_{Cell(run, seed).name}.txt"

    def checkpoint_path(self, run: Run, seed: int | None) -> Path:
        """The trained weights."""
        return self.out / "checkpoints" / f"ckpt_{Cell(run, seed).name}.bin"

    def model_path(self, seed: int | None) -> Path:
        """The initial weights, shared by all runs of a seed."""
        path = self.out / self.model.file
        return path if seed is None else path.with_name(f"{path.stem}_s{seed}{path.suffix}")

    def cell_dir(self, run: Run, seed: int | None) -> Path:
        """Configuration, state and attempts of a cell."""
        return self.out / "cells" / Cell(run, seed).name


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
    data = _data(Section(file, "[data]", top.get("data", dict, required=True)), None)
    model = _model(Section(file, "[model]", top.get("model", dict, required=True)))
    common = Section(file, "[train]", top.get("train", dict, required=True))
    if "label" in common.table or "name" in common.table:
        raise common.error("name", "belongs to a [[run]]; [train] holds settings only")
    common.allow(SETTINGS)

    baseline = top.get("baseline", str, required=True)
    runs: list[Run] = []
    for number, entry in enumerate(top.tables("run"), start=1):
        run = _run(file, number, entry, common.table, data, baseline)
        if any(run.name.lower() == other.name.lower() for other in runs):
            raise UsageError(f"{file}: [[run]] name {run.name!r} is used twice; names must differ")
        if int(run.settings["sequence_length"]) > model.context:
            raise UsageError(
                f"{file}: [[run]] {run.name} has sequence_length "
                f"{run.settings['sequence_length']}, more than [model] context {model.context}"
            )
        runs.append(run)
    if not runs:
        raise top.error("run", "is missing; a matrix needs at least one [[run]]")
    names = [run.name for run in runs]
    _known_run(top, "baseline", baseline, names)
    for run in runs:
        _known_run(Section(file, f"[[run]] {run.name}", {}), "baseline", run.baseline, names)

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
    )


def _data(section: Section, common: Data | None) -> Data:
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


def _model(section: Section) -> Model:
    section.allow(("file", "channels", "layers", "heads", "context", "vocab", "init", "seed"))
    name = section.get("file", str, "model.bin")
    if not _SAFE_NAME.fullmatch(name):
        raise section.error("file", f"is {name!r}; it must be a plain file name")
    model = Model(
        file=name,
        init=section.choice("init", ("gpt2", "original"), "gpt2"),
        seed=section.number("seed", int, 1337, low=0),
        **{
            key: section.number(key, int, low=1, high=2**31 - 1, required=True)
            for key in ("channels", "layers", "heads", "context", "vocab")
        },
    )
    if model.channels % model.heads:
        raise section.error(
            "channels",
            f"is {model.channels}, not a multiple of heads "
            f"{model.heads}; every head needs the same width",
        )
    return model


def _run(
    file: Path,
    number: int,
    entry: Mapping[str, Any],
    common: Mapping[str, Any],
    data: Data,
    baseline: str,
) -> Run:
    section = Section(file, f"[[run]] {number}", entry)
    section.allow(("name", "label", "baseline", "data", *SETTINGS))
    name = section.get("name", str, required=True)
    if not _SAFE_NAME.fullmatch(name) or re.search(r"_s\d+$", name):
        raise section.error(
            "name",
            f"is {name!r}; it must be letters, digits and _ . + - only, "
            "and must not end in _s<number>, which marks a seed",
        )
    settings: dict[str, int | float] = {}
    merged = Section(file, f"[[run]] {name}", {**common, **entry})
    for setting in SETTINGS.values():
        value = merged.number(
            setting.name,
            setting.kind,
            low=setting.low,
            high=setting.high,
            above=setting.above,
            required=setting.required,
        )
        if setting.name in merged.table:
            settings[setting.name] = float(value) if setting.kind is float else value
    own = Section(file, f"[[run]] {name} data", section.get("data", dict, {}))
    return Run(
        name,
        section.line("label", name),
        settings,
        _data(own, data),
        section.get("baseline", str, baseline),
    )


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
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise top.error("seeds", f"holds {seed!r}; a seed is a whole number of at least 0")
    return tuple(seeds)


def _known_run(section: Section, key: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise section.error(key, f"is {name!r}, but the runs are {', '.join(names)}")
