"""The TinyStories corpus: its archive, downloaded once, tokenized without unpacking it."""

from __future__ import annotations

import gzip
import random
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from pyllmc.data.download import DownloadError, download, remove_download
from pyllmc.data.encode import Piece, cut_document, encode
from pyllmc.data.json_stream import read_objects
from pyllmc.data.prepare import Dataset, find_dataset, write_dataset
from pyllmc.data.spool import TokenSpool
from pyllmc.data.tokenizers import Tokenizer, load_tokenizer
from pyllmc.errors import FormatError, UsageError
from pyllmc.terminal import Progress, say

URL = (
    "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
    "TinyStories_all_data.tar.gz"
)
NAME = "TinyStories"
FOLDER = Path("data/tinystories")
SHUFFLE_SEED = 1337


def prepare_tinystories(
    folder: Path = FOLDER,
    *,
    url: str = URL,
    sha256: str | None = None,
    keep_archive: bool = False,
    force: bool = False,
) -> Dataset:
    """Download the archive at `url` and tokenize it with GPT-2's vocabulary.

    The archive is a .tar.gz of JSON shards, each an array of objects with the field "story". By
    their sorted names the first shard becomes val, the second test, the others train. Stories are
    stripped and shuffled inside a shard, end-of-text stands before each.
    Needs under 500 MB of memory, and disk space for the archive and twice the tokens.
    """
    request = {"kind": "tinystories", "url": url, "tokenizer": "gpt2"}
    if sha256 is not None:
        request["sha256"] = sha256.lower()
    if not force and (dataset := find_dataset(folder, NAME, request)):
        return dataset
    archive = folder / (PurePosixPath(urlsplit(url).path).name or f"{NAME}.tar.gz")
    tokenizer = load_tokenizer("gpt2")
    try:
        found = download(url, archive, sha256=sha256)
    except DownloadError as error:
        raise DownloadError(
            f"{error}: check the network, name another address with --url, or use the built-in "
            "stories, `pyllmc data prepare ministories`"
        ) from error
    with TokenSpool(folder) as spool:
        shards = _tokenize(archive, tokenizer, spool)
        if len(shards) < 3:
            raise UsageError(
                f"{archive} holds {len(shards)} JSON shards; train, val and test need at least 3"
            )
        val, test, *train = sorted(shards)
        dataset = write_dataset(
            folder,
            NAME,
            tokenizer_name=tokenizer.name,
            tokens=tokenizer.tokens,
            eot=tokenizer.eot,
            splits=[
                ("val", spool.read(*shards[val])),
                ("test", spool.read(*shards[test])),
                *(("train", spool.read(*shards[shard])) for shard in train),
            ],
            source={
                **request,
                "sha256": found,
                "bytes": archive.stat().st_size,
                "shards": sorted(shards),
                "shuffle_seed": SHUFFLE_SEED,
            },
        )
    if not keep_archive:
        remove_download(archive)
    return dataset


def _tokenize(archive: Path, tokenizer: Tokenizer, spool: TokenSpool) -> dict[str, tuple[int, int]]:
    """Fill the spool in the archive's order; returns the range of each shard, by its name."""
    shards: dict[str, tuple[int, int]] = {}
    try:
        with (
            archive.open("rb") as raw,
            gzip.open(raw) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|", bufsize=1 << 20) as tar,
            Progress("tokenizing", archive.stat().st_size) as progress,
        ):
            for member in tar:
                name = PurePosixPath(member.name).name
                # macOS packs a ._twin beside each file.
                if not member.isfile() or name[:2] == "._" or not name.endswith(".json"):
                    continue
                if member.name in shards:
                    raise FormatError(f"{archive} holds {member.name} twice")
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file
                start = spool.tokens
                for ids in encode(tokenizer, _stories(stream, member.name)):
                    spool.append(ids)
                    progress.update(raw.tell())
                shards[member.name] = (start, spool.tokens)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise FormatError(
            f"{archive} is not a whole .tar.gz ({error}): remove it and run the command again"
        ) from error
    say(f"tokenized {len(shards)} shards, {spool.tokens:,} tokens.")
    return shards


def _stories(stream: IO[bytes], shard: str) -> Iterator[Piece]:
    # As UTF-8 a shard's stories take about 100 MB; as str one typographic quote doubles a story.
    stories = []
    for count, item in enumerate(read_objects(stream, shard)):
        story = item.get("story")
        if not isinstance(story, str):
            raise FormatError(f'{shard}: object {count:,} has no text in its field "story"')
        if story := story.strip():
            stories.append(story.encode("utf-8", "surrogatepass"))
    random.Random(SHUFFLE_SEED).shuffle(stories)
    for encoded in stories:
        yield from cut_document(encoded.decode("utf-8", "surrogatepass"))
