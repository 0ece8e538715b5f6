"""Every log dialect → one tidy pandas table.

The lines are read by the C++ parser (csrc/formats/log_parser.h says what it takes and what it
skips); here are the files' names, the table, and the facts that only a .jsonl holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyllmc import _core
from pyllmc.errors import FormatError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test", "train_subset")
_VALUES = ("loss", "lr", "grad_norm")
_SEED_SUFFIX = re.compile(r"(?P<run>.+)_s(?P<seed>\d+)")


@dataclass(frozen=True)
class LogFile:
    """A log and the run and seed it belongs to (seed None: the run has no seed in its name)."""

    path: Path
    run: str
    seed: int | None = None


def read_logs(paths: Sequence[Path | str], *, full: bool = False) -> pd.DataFrame:
    """The losses in `paths` (log files, or folders of them), sorted by run, seed, split, step.

    Columns: run (categorical), seed (Int64, NA when the name has none), step (int64), split
    (categorical train, val, test, train_subset: a fixed part of the training data), loss (nats a
    token), lr, grad_norm (float64, NaN when absent).
    `full` reads the .jsonl beside a log where there is one: losses in full precision, and a
    column tokens_per_second.

    A run is named after its file: `log_fc1_bw256_s2.txt` is run fc1_bw256, seed 2. Files of
    different folders that would share a name are named by their paths below the common folder.
    `attrs["counts"]` holds the parser's counts by file, `attrs["skipped"]` the lines not
    understood. Raises FormatError for a path that cannot be read and a folder without logs.
    """
    found = [file for path in paths for file in find_logs(Path(path))]
    return read_log_files(_named(list(dict.fromkeys(found)), full), full=full)


def read_log_files(files: Sequence[LogFile], *, full: bool = False) -> pd.DataFrame:
    """`read_logs` for files whose runs are known; two of one run and seed are a ValueError."""
    import pandas as pd

    files = sorted(files, key=lambda f: (f.run, f.seed is None, f.seed or 0))
    if len({(file.run, file.seed) for file in files}) < len(files):
        raise ValueError("two log files of one run and seed")
    columns = [*_VALUES, "tokens_per_second"] if full else list(_VALUES)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("step", *columns)}
    lengths = np.zeros((len(files), len(SPLITS)), np.int64)
    counts: dict[str, dict[str, int]] = {}
    for i, file in enumerate(files):
        parsed = _core.parse_log(str(file.path))
        counts[str(file.path)] = parsed["counts"]
        for j, split in enumerate(SPLITS):
            series = parsed["splits"][split]
            lengths[i, j] = len(series["step"])
            for name, arrays in parts.items():
                arrays.append(series[name])

    runs = sorted({file.run for file in files})
    rows_of_file = lengths.sum(axis=1)
    run_codes = np.array([runs.index(file.run) for file in files], np.int64)
    seeds = np.array([file.seed or 0 for file in files], np.int64)
    unseeded = np.array([file.seed is None for file in files], bool)
    split_codes = np.tile(np.arange(len(SPLITS)), len(files))
    table: dict[str, Any] = {
        "run": pd.Categorical.from_codes(
            np.repeat(run_codes, rows_of_file), pd.Index(runs, dtype=str)
        ),
        "seed": pd.arrays.IntegerArray(
            np.repeat(seeds, rows_of_file), np.repeat(unseeded, rows_of_file)
        ),
        "step": _join(parts["step"], np.int64),
        "split": pd.Categorical.from_codes(
            np.repeat(split_codes, lengths.ravel()), pd.Index(SPLITS)
        ),
    }
    for name in columns:
        table[name] = _join(parts[name], np.float64)
    frame = pd.DataFrame(table)
    frame.attrs["counts"] = counts
    frame.attrs["skipped"] = {path: n["skipped"] for path, n in counts.items()}
    return frame


def find_logs(path: Path) -> list[Path]:
    """The logs that `path` stands for: itself, or those in the folder.

    In a folder: log_*.txt, else every *.txt, *.log and *.jsonl; where there is none, the same in
    its folder logs/. A .jsonl beside its .txt is the same run and is left out. Raises FormatError
    where there is nothing.
    """
    if not path.is_dir():
        if not path.exists():
            raise FormatError(f"there is no {path}: give a log file or a folder of logs")
        return [path]
    for folder in (path, path / "logs"):
        logs = [file for file in folder.glob("log_*.txt") if file.is_file()]
        if not logs:
            files = [file for file in folder.glob("*") if file.is_file()]
            texts = {file.stem for file in files if file.suffix == ".txt"}
            logs = [file for file in files if file.suffix in (".txt", ".log")]
            logs += [f for f in files if f.suffix == ".jsonl" and f.stem not in texts]
        if logs:
            return sorted(logs)
    raise FormatError(f"{path} holds no log_*.txt, *.txt, *.log or *.jsonl: give a folder of logs")


def run_name(path: Path) -> tuple[str, int | None]:
    """Run and seed from a log's file name."""
    name = path.stem.removeprefix("log_") or path.stem
    match = _SEED_SUFFIX.fullmatch(name)
    return (match["run"], int(match["seed"])) if match else (name, None)


def full_log(path: Path) -> Path:
    """The .jsonl that belongs to a log (itself if it is one); it need not exist."""
    return path.with_suffix(".jsonl")


def _named(paths: list[Path], full: bool) -> list[LogFile]:
    used = [full_log(path) if full and full_log(path).is_file() else path for path in paths]
    names = [run_name(path) for path in paths]
    taken = Counter(names)
    clashing = [path.absolute() for path, name in zip(paths, names, strict=True) if taken[name] > 1]
    common = Path(commonpath([path.parent for path in clashing])) if clashing else Path()
    files = []
    for path, use, name in zip(paths, used, names, strict=True):
        run, seed = name
        if taken[name] > 1:
            run, seed = path.absolute().relative_to(common).as_posix(), None
        files.append(LogFile(use, run, seed))
    return files


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
