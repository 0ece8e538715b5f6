"""Text file to token files, against tiktoken's own batch encoder on text already in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from pyllmc.bench.rounds import Contestant
from pyllmc.errors import FormatError, UsageError

SEPARATOR = "<|endoftext|>"
_STORIES = 4000


def stories_text(megabytes: float) -> str:
    """At least that much of the built-in stories, told again from the start where they end, with
    the separator between two."""
    from pyllmc.data.stories import tell_stories

    parts: list[str] = []
    size = 0
    stories = cycle(tell_stories(_STORIES, 1337))
    while size < megabytes * 1e6:
        parts.append(next(stories))
        size += len(parts[-1])
    return SEPARATOR.join(parts)


@contextlib.contextmanager
def data_contestants(
    files: Sequence[Path], megabytes: float, tokenizer_name: str, separator: str
) -> Iterator[list[Contestant]]:
    """`prepare_text` from files to files, and tiktoken on the same documents."""
    from pyllmc.data.text import prepare_text
    from pyllmc.data.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_name)
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="pyllmc-bench-") as name:
        folder = Path(name)
        if not files:
            files = [folder / "stories.txt"]
            files[0].write_text(stories_text(megabytes), encoding="utf-8")
            separator = SEPARATOR
        documents = list(_documents(files, separator))
        size = sum(path.stat().st_size for path in files)
        if not documents:
            raise UsageError("the files hold no text: name others")
        tokens = sum(
            map(len, tokenizer.encoding.encode_ordinary_batch(documents, num_threads=threads))
        )

        def ours() -> float:
            start = time.perf_counter()
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                prepare_text(
                    files,
                    folder / "out",
                    "bench",
                    tokenizer_name=tokenizer_name,
                    separator=separator,
                    force=True,
                )
            return time.perf_counter() - start

        def theirs() -> float:
            start = time.perf_counter()
            tokenizer.encoding.encode_ordinary_batch(documents, num_threads=threads)
            return time.perf_counter() - start

        batch = Contestant(
            "tiktoken encode_ordinary_batch", theirs, bytes=float(size), tokens=tokens
        )
        yield [
            Contestant(
                "pyllmc data prepare text",
                ours,
                bytes=float(size),
                tokens=tokens,
                against=(batch.name,),
                facts={"documents": len(documents), "text_bytes": size, "threads": threads},
            ),
            batch,
        ]


def _documents(files: Sequence[Path], separator: str) -> Iterator[str]:
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"could not read {path} as UTF-8 text: {error}") from error
        yield from (part for piece in text.split(separator) if (part := piece.strip()))
