"""Any UTF-8 text files as a data set."""

from __future__ import annotations

import codecs
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pyllmc.data.encode import MAX_PIECE, Piece, cut_document, cut_position, encode
from pyllmc.data.prepare import Dataset, find_dataset, write_dataset
from pyllmc.data.spool import TokenSpool
from pyllmc.data.tokenizers import Tokenizer, load_tokenizer
from pyllmc.errors import FormatError, UsageError
from pyllmc.files import file_sha256
from pyllmc.terminal import Progress

# With fewer documents than this, splits of whole documents would be far from the shares asked for.
MIN_DOCUMENTS = 20
MAX_DOCUMENT = 1 << 26
_READ = 1 << 20


def prepare_text(
    files: Sequence[Path],
    folder: Path,
    name: str,
    *,
    tokenizer_name: str = "gpt2",
    separator: str | None = None,
    shares: tuple[int, int, int] = (90, 5, 5),
    shuffle_seed: int | None = None,
    force: bool = False,
) -> Dataset:
    """Tokenize files, in the order given, into `folder`/`name`_{train,val,test}.bin.

    A file is one document, taken as it is, or several where `separator` stands between them (then
    stripped of white space, empty ones left out). `shares` are the percentages of train, val and
    test: consecutive documents, or consecutive tokens when there are fewer than 20 documents;
    `shuffle_seed` shuffles the documents before that. Raises FormatError for a file that is not
    UTF-8, with the position of the first bad byte.
    """
    if separator == "":
        raise UsageError("the separator is empty: leave it out to make each file one document")
    if sum(shares) != 100 or min(shares) < 1:
        raise UsageError(
            f"the shares {'/'.join(map(str, shares))} are not three whole percentages of at least "
            "1 that add up to 100, such as 90/5/5"
        )
    _check_files(files)
    tokenizer = load_tokenizer(tokenizer_name)
    source = {
        "kind": "text",
        "tokenizer": tokenizer.name,
        "vocabulary": tokenizer.fingerprint,
        "separator": separator,
        "shares": shares,
        "shuffle_seed": shuffle_seed,
        "files": [
            {"name": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}
            for file in files
        ],
    }
    if not force and (dataset := find_dataset(folder, name, source)):
        return dataset
    with TokenSpool(folder) as spool:
        starts = _tokenize(files, separator, tokenizer, spool)
        return write_dataset(
            folder,
            name,
            tokenizer_name=tokenizer.name,
            tokens=tokenizer.tokens,
            eot=tokenizer.eot,
            splits=(
                (split, spool.read(start, stop))
                for split, ranges in _split(starts, spool.tokens, shares, shuffle_seed).items()
                for start, stop in ranges
            ),
            source=source,
        )


def _check_files(files: Sequence[Path]) -> None:
    if not files:
        raise UsageError("no text file was given: name at least one")
    for file in files:
        if not file.is_file():
            seen = "is not a regular file" if file.exists() else "does not exist"
            raise FormatError(f"{file} {seen}: a UTF-8 text file was expected")


def _tokenize(
    files: Sequence[Path], separator: str | None, tokenizer: Tokenizer, spool: TokenSpool
) -> np.ndarray:
    """Fill the spool; returns where each document begins, int64."""
    starts = []
    total = sum(file.stat().st_size for file in files)
    with Progress("tokenizing", total) as progress:
        for ids in encode(tokenizer, _pieces(files, separator, progress)):
            starts.append(np.flatnonzero(ids == tokenizer.eot) + spool.tokens)
            spool.append(ids)
    if not starts:
        raise UsageError("the files hold no text: nothing to tokenize")
    return np.concatenate(starts)


def _pieces(files: Sequence[Path], separator: str | None, progress: Progress) -> Iterator[Piece]:
    done = 0
    for file in files:
        for piece in read_documents(file, separator):
            yield piece
            progress.update(done + len(piece.text))
            done += len(piece.text)


def read_documents(file: Path, separator: str | None) -> Iterator[Piece]:
    """The documents of a file, cut where they are long; FormatError when it is not UTF-8."""
    blocks = _decode(file)
    if separator is None:
        yield from _one_document(blocks)
        return
    rest = ""
    for block in blocks:
        *documents, rest = (rest + block).split(separator)
        for document in documents:
            yield from _stripped(document)
        if len(rest) > MAX_DOCUMENT:
            raise UsageError(
                f"{file} has {len(rest):,} characters in a row without the separator "
                f"{separator!r}: correct it, or leave it out to make each file one document"
            )
    yield from _stripped(rest)


def _one_document(blocks: Iterator[str]) -> Iterator[Piece]:
    """Cuts as `cut_document` does, without holding the whole file."""
    rest = ""
    starts_document = True
    for block in blocks:
        rest += block
        while len(rest) > MAX_PIECE:
            cut = cut_position(rest, MAX_PIECE)
            yield Piece(rest[:cut], starts_document)
            starts_document = False
            rest = rest[cut:]
    if rest:
        yield Piece(rest, starts_document)


def _stripped(document: str) -> Iterator[Piece]:
    if document := document.strip():
        yield from cut_document(document)


def _decode(file: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    try:
        with file.open("rb") as stream:
            while True:
                data = stream.read(_READ)
                kept = len(decoder.getstate()[0])
                text = decoder.decode(data, final=not data)
                # Editors on Windows put this mark in front; it is no part of the text.
                yield text.removeprefix("\ufeff") if position == 0 else text
                position += len(data)
                if not data:
                    return
    except UnicodeDecodeError as error:
        at = position - kept + error.start
        raise FormatError(
            f"{file} is not UTF-8: the byte at offset {at} is 0x{error.object[error.start]:02x} "
            f"({error.reason}); convert it first, for example with iconv"
        ) from error
    except OSError as error:
        raise FormatError(f"could not read {file}: {error.strerror}") from error


def _split(
    starts: np.ndarray, tokens: int, shares: tuple[int, int, int], shuffle_seed: int | None
) -> dict[str, list[tuple[int, int]]]:
    """Which token ranges of the spool make up train, val and test."""
    stops = np.append(starts[1:], tokens)
    count = len(starts)
    if shuffle_seed is not None:
        order = list(range(count))
        random.Random(shuffle_seed).shuffle(order)
        starts, stops = starts[order], stops[order]
    units = count if count >= MIN_DOCUMENTS else tokens
    val = max(1, units * shares[1] // 100)
    test = max(1, units * shares[2] // 100)
    cuts = {"train": (0, units - val - test), "val": (units - val - test, units - test)}
    cuts["test"] = (units - test, units)
    if count >= MIN_DOCUMENTS:
        return {
            split: list(zip(starts[a:b].tolist(), stops[a:b].tolist(), strict=True))
            for split, (a, b) in cuts.items()
        }
    return {split: _clip(starts, stops, a, b) for split, (a, b) in cuts.items()}


def _clip(starts: np.ndarray, stops: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    """Tokens [first, last) of the documents laid end to end, as ranges of the spool."""
    ranges = []
    begin = 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        a, b = max(first - begin, 0), min(last - begin, stop - start)
        if a < b:
            ranges.append((start + a, start + b))
        begin += stop - start
    return ranges
