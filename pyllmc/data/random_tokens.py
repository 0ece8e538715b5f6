"""Uniformly random tokens: the control on which no model can learn more than ln V."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pyllmc.data.prepare import Dataset, find_dataset, write_dataset
from pyllmc.data.token_file import MAX_VOCAB_SIZE, Tokens
from pyllmc.errors import UsageError

NAME = "random"
FOLDER = Path("data/random")
SEED = 42
_BLOCK = 1 << 20


def prepare_random(
    folder: Path = FOLDER,
    *,
    vocab_size: int = 50257,
    tokens: int = 1_000_000,
    seed: int = SEED,
    force: bool = False,
) -> Dataset:
    """`tokens` ids for train and a tenth as many each for val and test, uniform in [0, vocab_size).

    The last id counts as end-of-text, as in GPT-2's vocabulary; in the tokenizer file each token
    is its own number.
    """
    if not 2 <= vocab_size <= MAX_VOCAB_SIZE:
        raise UsageError(
            f"a vocabulary of {vocab_size:,} does not work: 2 to {MAX_VOCAB_SIZE:,} was expected"
        )
    if tokens < 10:
        raise UsageError(f"{tokens} tokens are too few: at least 10 were expected")
    source = {"kind": "random", "vocab_size": vocab_size, "tokens": tokens, "seed": seed}
    if not force and (dataset := find_dataset(folder, NAME, source)):
        return dataset
    return write_dataset(
        folder,
        NAME,
        tokenizer_name="random",
        tokens=[f"{token} ".encode() for token in range(vocab_size)],
        eot=vocab_size - 1,
        splits=[
            (split, _uniform(count, vocab_size, [seed, number]))
            for number, (split, count) in enumerate(
                [("train", tokens), ("val", tokens // 10), ("test", tokens // 10)]
            )
        ],
        source=source,
        has_documents=False,
    )


def _uniform(count: int, vocab_size: int, key: list[int]) -> Iterator[Tokens]:
    # Raw 64-bit words of a bit generator stay the same over NumPy's versions, its distributions
    # need not; their remainders favour no id by more than V / 2^64.
    words = np.random.Philox(key=key)
    for start in range(0, count, _BLOCK):
        block = words.random_raw(min(_BLOCK, count - start)) % vocab_size
        yield block.astype(np.uint16)
