"""The built-in stories as a data set: no network, the same bytes for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pyllmc.data.encode import Piece, encode
from pyllmc.data.prepare import SPLITS, Dataset, find_dataset, write_dataset
from pyllmc.data.stories import tell_stories
from pyllmc.data.tokenizers import load_tokenizer
from pyllmc.errors import UsageError
from pyllmc.terminal import Progress

NAME = "ministories"
FOLDER = Path("data/ministories")
STORIES = 8000
SEED = 1337


def prepare_ministories(
    folder: Path = FOLDER, *, stories: int = STORIES, seed: int = SEED, force: bool = False
) -> Dataset:
    """Tell `stories` different stories and tokenize them: 90 % train, 5 % val, 5 % test.

    No two stories are alike, so none of val or test occurs in train. About 210 tokens a story.
    """
    if stories < 20:
        raise UsageError(f"{stories} stories are too few to split: at least 20 were expected")
    tokenizer = load_tokenizer("ministories")
    source = {
        "kind": "ministories",
        "stories": stories,
        "seed": seed,
        "vocabulary": tokenizer.fingerprint,
        # Tells apart what another version of the package would tell.
        "sample": hashlib.sha256("\n".join(tell_stories(50, seed)).encode()).hexdigest(),
    }
    if not force and (dataset := find_dataset(folder, NAME, source)):
        return dataset
    held_out = max(1, stories // 20)
    counts = (stories - 2 * held_out, held_out, held_out)
    with Progress("telling stories", stories, unit="stories") as progress:
        told = _pieces(stories, seed, progress)
        return write_dataset(
            folder,
            NAME,
            tokenizer_name=tokenizer.name,
            tokens=tokenizer.tokens,
            eot=tokenizer.eot,
            splits=[
                (split, encode(tokenizer, islice(told, count)))
                for split, count in zip(SPLITS, counts, strict=True)
            ],
            source=source,
        )


def _pieces(stories: int, seed: int, progress: Progress) -> Iterator[Piece]:
    for done, story in enumerate(tell_stories(stories, seed), start=1):
        progress.update(done)
        yield Piece(story, True)
