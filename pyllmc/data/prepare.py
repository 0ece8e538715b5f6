"""A prepared data set: three token files, a tokenizer file and the record that describes them.

The record `<name>.json` is written last and removed first, so where it stands the rest is whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyllmc.data.token_file import Tokens, token_file_writer
from pyllmc.data.tokenizer_file import write_tokenizer_file
from pyllmc.errors import UsageError
from pyllmc.files import atomic_write, file_sha256
from pyllmc.terminal import say

SPLITS = ("train", "val", "test")
RECORD_FORMAT = 1


@dataclass(frozen=True)
class Dataset:
    """A prepared data set in `folder`; `record` is what its .json file holds."""

    folder: Path
    name: str
    record: Mapping[str, Any]

    def file(self, split: str) -> Path:
        """The token file of "train", "val" or "test"."""
        return self.folder / f"{self.name}_{split}.bin"

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / f"{self.name}_tokenizer.bin"


def find_dataset(folder: Path, name: str, request: Mapping[str, Any]) -> Dataset | None:
    """The data set `name` in `folder` when it is whole and was made as `request` asks.

    `request` holds what decides the bytes and is compared with the record's "source". None when
    there is nothing, or when a file is missing or changed since (then a message says so). Raises
    UsageError when what is there was made otherwise: it is replaced only on demand.
    """
    record_path = folder / f"{name}.json"
    files = [f"{name}_{split}.bin" for split in SPLITS]
    there = [file for file in files if (folder / file).exists()]
    try:
        record = json.loads(record_path.read_bytes())
        source, splits = record["source"], record["splits"]
        known = {splits[split]["file"]: splits[split]["sha256"] for split in SPLITS}
        known[f"{name}_tokenizer.bin"] = record["tokenizer"]["sha256"]
    except FileNotFoundError:
        if not there:
            return None
        raise UsageError(
            f"{folder} holds {there[0]} but no {name}.json that says how it was made: --force "
            "replaces it, another --out-dir keeps it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{record_path} is not the record of a prepared data set: --force replaces it, another "
            "--out-dir keeps it"
        ) from error
    for key, wanted in json.loads(json.dumps(request)).items():
        had = source.get(key)
        if had != wanted:
            how = f"other {key}" if isinstance(wanted, list) else f"{key} {had!r}, not {wanted!r}"
            raise UsageError(
                f"{record_path} was made with {how}: --force replaces it, another --out-dir keeps "
                "both"
            )
    for file, sha256 in known.items():
        path = folder / file
        if not path.is_file() or file_sha256(path) != sha256:
            say(f"{path} is missing or not what {name}.json recorded: preparing it again.")
            return None
    say(f"{record_path} is up to date.")
    return Dataset(folder, name, record)


def write_dataset(
    folder: Path,
    name: str,
    *,
    tokenizer_name: str,
    tokens: Sequence[bytes],
    eot: int,
    splits: Iterable[tuple[str, Iterable[Tokens]]],
    source: Mapping[str, Any],
    has_documents: bool = True,
) -> Dataset:
    """Write the token files from (split, blocks of ids) pairs, then tokenizer file and record.

    `tokens[i]` are the bytes of id i. Each end-of-text counts as a document. Raises UsageError
    when a split stays empty; then, as on every failure, what was there before stays.
    """
    documents = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(token_file_writer(folder / f"{name}_{split}.bin"))
            for split in SPLITS
        }
        for split, blocks in splits:
            for block in blocks:
                writers[split].append(block)
                if has_documents:
                    documents[split] += int(np.count_nonzero(block == eot))
        empty = [split for split in SPLITS if writers[split].tokens == 0]
        if empty:
            total = sum(writer.tokens for writer in writers.values())
            raise UsageError(
                f"the {' and '.join(empty)} split of {name} would be empty, the whole has {total} "
                "tokens: give it more text or other shares"
            )
        (folder / f"{name}.json").unlink(missing_ok=True)
    dataset = Dataset(folder, name, {})
    write_tokenizer_file(dataset.tokenizer_file, tokens, eot)
    record = {
        "format": RECORD_FORMAT,
        "name": name,
        "tokenizer": {
            "name": tokenizer_name,
            "vocab_size": len(tokens),
            "eot": eot,
            "sha256": file_sha256(dataset.tokenizer_file),
        },
        "splits": {
            split: {
                "file": dataset.file(split).name,
                "tokens": writers[split].tokens,
                "documents": documents[split],
                "sha256": file_sha256(dataset.file(split)),
            }
            for split in SPLITS
        },
        "source": dict(source),
    }
    atomic_write(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
    return Dataset(folder, name, record)
