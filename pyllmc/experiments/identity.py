"""What a run is: the configuration that decides its numbers, and the hash of it."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pyllmc.experiments.matrix import Cell, Data, Matrix
from pyllmc.experiments.settings import resolve
from pyllmc.files import file_sha256

# Above this size the hash that `pyllmc data prepare` recorded is taken instead of reading the file,
# unless the file was written to after the record.
_LARGE = 256 * 1024 * 1024
_TOKEN_HEADER = 1024

# Stands for the hash of an input that is still to be made, which will come out as before.
TO_BE_MADE = "to be made"

Configuration = dict[str, dict[str, object]]


def data_fingerprint(pattern: str) -> str | None:
    """Hex sha256 that stands for the token files of a glob, None when there are none.

    One file: its sha256. Shards: the sha256 of theirs in order. Names, places and times count for
    nothing.
    """
    hashes = [_token_sha256(Path(name)) for name in sorted(glob.glob(pattern))]
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _token_sha256(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGE:
        manifest = path.with_name(path.stem.rpartition("_")[0] + ".json")
        try:
            if path.stat().st_mtime_ns > manifest.stat().st_mtime_ns:
                return file_sha256(path)
            splits = json.loads(manifest.read_text(encoding="utf-8"))["splits"].values()
            for split in splits:
                if split["file"] == path.name and _TOKEN_HEADER + 2 * split["tokens"] == size:
                    return str(split["sha256"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # a manifest that is missing or says nothing: the file itself is read
    return file_sha256(path)


class Fingerprints:
    """Hashes of the inputs, each file read once however many cells share it."""

    def __init__(self) -> None:
        self._data: dict[str, str] = {}
        self._models: dict[Path, str] = {}

    def data(self, data: Data) -> dict[str, object]:
        """Fingerprint of each split, None for one that is not asked for."""
        splits = {"train": data.train, "val": data.val, "test": data.test}
        for pattern in splits.values():
            if pattern is not None and pattern not in self._data:
                self._data[pattern] = data_fingerprint(pattern) or TO_BE_MADE
        return {
            name: None if pattern is None else self._data[pattern]
            for name, pattern in splits.items()
        }

    def model(self, path: Path) -> str:
        """sha256 of the initial weights."""
        if path not in self._models:
            self._models[path] = file_sha256(path) if path.exists() else TO_BE_MADE
        return self._models[path]


def configuration(matrix: Matrix, cell: Cell, fingerprints: Fingerprints) -> Configuration:
    """Everything that may change the cell's numbers; paths, threads and device are not in it."""
    weights = matrix.weights(cell.run, cell.seed)
    model = weights.model
    mlp = {"hidden": model.hidden, "mlp_rank": model.mlp_rank}
    return {
        "settings": resolve(cell.run.settings, cell.seed),
        "data": fingerprints.data(cell.run.data),
        "model": {
            "channels": model.channels,
            "layers": model.layers,
            "heads": model.heads,
            "context": model.context,
            "vocab": model.vocab,
            **{key: value for key, value in mlp.items() if value},
            "sha256": fingerprints.model(weights.path),
        },
    }


def identity(config: Configuration) -> str:
    """Hex sha256 of a configuration."""
    text = json.dumps({"schema": 1, **config}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Mapping[str, object]], new: Configuration) -> list[str]:
    """One line a value that changed: `settings steps: 5000 -> 60`."""
    lines = []
    for section in sorted(set(old) | set(new)):
        before, after = old.get(section, {}), new.get(section, {})
        for key in sorted(set(before) | set(after)):
            if after.get(key) not in (before.get(key), TO_BE_MADE):
                lines.append(
                    f"{section} {key}: {_short(before.get(key))} -> {_short(after.get(key))}"
                )
    return lines


def _short(value: object) -> str:
    if value is None:
        return "none"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
