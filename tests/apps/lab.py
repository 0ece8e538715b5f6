"""A tiny model, its data and its tokenizer, in a folder where the programs are run as children."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from formats.llmc_files import read_checkpoint
from oracle.inputs import write_tokens

from pyllmc import _core
from pyllmc.data.tokenizer_file import write_tokenizer_file

# Every byte, three merges and end-of-text, which is the last id.
WORDS = [*(bytes([byte]) for byte in range(256)), b" t", b"he", b" the", b"<|endoftext|>"]
V, EOT = len(WORDS), len(WORDS) - 1
C, L, NH, MAX_T = 16, 2, 2, 16
PARAMETERS = 384 * C + MAX_T * C + L * (12 * C * C + 13 * C) + 2 * C
DENSE_AT = 2 * (4 * C - 1)  # the smallest bandwidth that keeps everything
TRAIN_TOKENS, VAL_TOKENS = 2001, 401
BATCH = 4 * MAX_T  # tokens of a batch at the programs' defaults
TRAIN_BATCHES, VAL_BATCHES = (TRAIN_TOKENS - 1) // BATCH, (VAL_TOKENS - 1) // BATCH
# Where the programs look when they are told nothing.
TRAIN_DATA = "data/tinystories/TinyStories_train.bin"
VAL_DATA = "data/tinystories/TinyStories_val.bin"


@dataclass
class Lab:
    """The working directory of the programs; paths given to its methods are relative to it."""

    folder: Path
    programs: SimpleNamespace

    def train_command(self, *words: object) -> list[str]:
        """train_banded on one thread, unless the words say otherwise; each may hold several."""
        given = " ".join(map(str, words)).split()
        return [str(self.programs.train_banded), "--threads", "1", *given]

    def train(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(self.train_command(*words), **options)

    def trained(self, *words: object) -> str:
        """The stdout of a run that has to succeed."""
        done = self.train(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def generate(self, *words: object) -> subprocess.CompletedProcess[str]:
        """generate_banded; each word is one argument."""
        return self.run([str(self.programs.generate_banded), "--threads", "1", *map(str, words)])

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        # A model that has learned nothing draws bytes that are no UTF-8.
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, errors="replace",
            timeout=60, **options,
        )  # fmt: skip

    def log(self, name: str = "log") -> list[str]:
        """Lines of <name>.txt."""
        return (self.folder / f"{name}.txt").read_text().splitlines()

    def events(self, kind: str = "", name: str = "log") -> list[dict[str, Any]]:
        """Objects of <name>.jsonl, of one type or all."""
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if kind in ("", event["type"])]

    def checkpoint(self, path: str = "ckpt.bin") -> tuple[dict[str, int], dict[str, np.ndarray]]:
        """(header, tensors) as a reader in NumPy sees them."""
        return read_checkpoint((self.folder / path).read_bytes())

    def tokens(self, path: str, ids: Any) -> None:
        write_tokens(self.folder / path, ids)

    def tokenizer(self, path: str, words: list[bytes] = WORDS) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tokenizer_file(file, words, len(words) - 1)

    def model(self, path: str = "model.bin", channels: int = C, seed: int = 1337) -> None:
        _core.init_checkpoint(
            str(self.folder / path), channels, L, NH, MAX_T, V, init="original", seed=seed
        )

    def broken_model(self, path: str) -> None:
        """The model with one weight that is not finite."""
        header, tensors = _core.read_checkpoint(str(self.folder / "model.bin"))
        tensors["fcw"][0, 3, 1] = np.inf
        _core.write_checkpoint(str(self.folder / path), header, tensors)


def make_lab(folder: Path, programs: SimpleNamespace) -> Lab:
    """model.bin, and random training and validation data where the programs look for them."""
    lab = Lab(folder, programs)
    lab.model()
    (folder / TRAIN_DATA).parent.mkdir(parents=True)
    rng = np.random.default_rng(3)
    lab.tokens(TRAIN_DATA, rng.integers(0, V, TRAIN_TOKENS))
    lab.tokens(VAL_DATA, rng.integers(0, V, VAL_TOKENS))
    return lab


def refusal(done: subprocess.CompletedProcess[str], program: str = "train_banded") -> str:
    """The one sentence on stderr of a program that failed."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{program}: ")
    return lines[0].removeprefix(f"{program}: ")
