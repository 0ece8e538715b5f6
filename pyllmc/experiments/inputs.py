"""What a cell starts from: token files and initial weights, made when they are missing."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyllmc import _core
from pyllmc.errors import FormatError, UsageError
from pyllmc.experiments.matrix import Cell, Data, Matrix, Weights
from pyllmc.files import atomic_write, file_sha256, read_json_object

# Enough that the runs of 00007 see no token twice, so that memorizing cannot help.
_RANDOM_TOKENS = 10_000_000
# What a recipe that does not say so was made with.
_OLD_RECIPE = {"hidden": 0, "mlp_rank": 0}


def missing_data(data: Data) -> list[str]:
    """The paths or globs of `data` that match no file."""
    patterns = [data.train, data.val, *([data.test] if data.test is not None else [])]
    return [pattern for pattern in patterns if not glob.glob(pattern)]


def check_data(cells: Iterable[Cell]) -> None:
    """Raises FormatError for data that are missing and that the matrix cannot make itself."""
    for cell in cells:
        missing = missing_data(cell.run.data)
        if missing and cell.run.data.prepare is None:
            raise FormatError(
                f"{cell.name} needs {missing[0]}, which is not there: run `pyllmc data prepare "
                "tinystories` (or `... text FILE`), start from the folder it was made in, or name "
                "other files with --set data.train=... --set data.val=..."
            )


def prepare_data(matrix: Matrix, cells: Iterable[Cell]) -> None:
    """Makes the built-in data that the cells name and that are missing."""
    for data in dict.fromkeys(cell.run.data for cell in cells):
        if not missing_data(data) or data.prepare is None:
            continue
        folder = Path(data.train).parent
        if data.prepare == "random":
            from pyllmc.data.random_tokens import prepare_random

            prepare_random(folder, vocab_size=matrix.model.vocab, tokens=_RANDOM_TOKENS)
        else:
            from pyllmc.data.ministories import prepare_ministories

            prepare_ministories(folder)
        still = missing_data(data)
        if still:
            raise UsageError(
                f"{matrix.folder}/matrix.toml names {still[0]}, but prepare = "
                f"{data.prepare!r} made no such file in {folder}"
            )


def model_change(matrix: Matrix, weights: Weights) -> str | None:
    """What differs between the recipe of the model file that is there and the wanted weights.

    None when there is no file yet, when it was made as described, or when it came from elsewhere
    with the right shape. Raises UsageError when that one's shape is another, FormatError when it
    is no model file.
    """
    path, wanted = weights.path, _recipe(weights)
    if not path.exists():
        return None
    advice = f"remove it and {path} to have the weights made again"
    record = read_json_object(_recipe_path(matrix, weights), advice) or {}
    if record.get("sha256") == file_sha256(path):
        return _differences({**_OLD_RECIPE, **record.get("recipe", {})}, wanted)
    other = _differences(_model_shape(path), {**wanted, "hidden": weights.model.hidden_width})
    if other is not None:
        raise UsageError(
            f"{path} was not made for this matrix and has another shape ({other}); move it away "
            "to have one made, or choose another folder with --out"
        )
    return None


def _differences(before: Mapping[str, object], wanted: Mapping[str, object]) -> str | None:
    changes = [
        f"{key} {before[key]} -> {wanted[key]}"
        for key in wanted
        if key in before and before[key] != wanted[key]
    ]
    return ", ".join(changes) or None


def make_model(matrix: Matrix, weights: Weights) -> None:
    """Writes the initial weights, and beside the cells how they were made."""
    from pyllmc.models.init import init_model

    path, recipe = weights.path, _recipe(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    init_model(path, **recipe)
    atomic_write(
        _recipe_path(matrix, weights),
        json.dumps({"recipe": recipe, "sha256": file_sha256(path)}, indent=1) + "\n",
    )


def _recipe(weights: Weights) -> dict[str, Any]:
    recipe = asdict(weights.model)
    del recipe["file"]
    return {**recipe, "seed": weights.seed}


def _recipe_path(matrix: Matrix, weights: Weights) -> Path:
    return matrix.out / "cells" / f"{weights.path.name}.json"


def _model_shape(path: Path) -> dict[str, object]:
    header = _core.read_model_header(path)
    names = {
        "channels": "channels",
        "layers": "num_layers",
        "heads": "num_heads",
        "context": "max_seq_len",
        "vocab": "vocab_size",
        "hidden": "hidden",
        "mlp_rank": "mlp_rank",
    }
    return {name: header[theirs] for name, theirs in names.items()}
