"""The vocabularies: GPT-2's through tiktoken's cache, the built-in one, and any .tiktoken file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pyllmc.data.token_file import MAX_VOCAB_SIZE
from pyllmc.errors import FormatError, PyllmcError, UsageError
from pyllmc.files import atomic_write

if TYPE_CHECKING:
    import tiktoken

EOT_TEXT = "<|endoftext|>"

# GPT-2's split pattern, in the form that tiktoken runs without backtracking.
GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

_GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
# What tiktoken's gpt2 encoding reads, by the sha256 that it checks.
GPT2_FILES = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary with its encoder: `tokens[i]` are the bytes of id i, `eot` is end-of-text."""

    name: str
    tokens: tuple[bytes, ...]
    eot: int
    encoding: tiktoken.Encoding

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def fingerprint(self) -> str:
        """sha256 over every token: tells two vocabularies of one name apart."""
        digest = hashlib.sha256()
        for token in self.tokens:
            digest.update(len(token).to_bytes(4, "little") + token)
        return digest.hexdigest()


def load_tokenizer(name: str) -> Tokenizer:
    """`gpt2`, `ministories`, or the path of a .tiktoken file (base64 of a token, its rank).

    A .tiktoken vocabulary is split with GPT-2's pattern and gets end-of-text as one id more.
    Raises UsageError for an unknown name, FormatError for a bad file, PyllmcError when GPT-2's
    files are neither cached nor reachable.
    """
    if name == "gpt2":
        return _load_gpt2()
    if name == "ministories":
        data = resources.files("pyllmc.data").joinpath("assets/ministories.tiktoken").read_bytes()
        return _from_ranks(name, data, "the built-in vocabulary")
    path = Path(name)
    if path.suffix != ".tiktoken":
        raise UsageError(
            f"there is no tokenizer {name!r}: gpt2, ministories and the path of a .tiktoken file "
            "are known"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"could not read {path}: {error.strerror}") from error
    return _from_ranks(path.stem, data, str(path))


def _from_ranks(name: str, data: bytes, where: str) -> Tokenizer:
    # tiktoken's own loader would leave a copy in its cache folder and read that one for ever after.
    import tiktoken

    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise FormatError(
                f"{where}, line {number}: {line[:40]!r} is not the base64 of a token and its rank"
            ) from error
    size = len(ranks)
    if sorted(ranks.values()) != list(range(size)) or size >= MAX_VOCAB_SIZE:
        raise FormatError(
            f"{where} has {size:,} tokens whose ranks are not 0 to {size - 1:,} once each, or more "
            f"than the {MAX_VOCAB_SIZE - 1:,} that a uint16 token file can hold"
        )
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise FormatError(
            f"{where} lacks {len(missing)} of the 256 single bytes, the first is {missing[0]}: "
            "byte-level BPE needs them all"
        )
    encoding = tiktoken.Encoding(
        name=name, pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={EOT_TEXT: size}
    )
    return _from_encoding(name, encoding)


def _from_encoding(name: str, encoding: tiktoken.Encoding) -> Tokenizer:
    tokens = tuple(encoding.decode_single_token_bytes(i) for i in range(encoding.n_vocab))
    return Tokenizer(name, tokens, encoding.eot_token, encoding)


def _load_gpt2() -> Tokenizer:
    import tiktoken

    # Fetched here first: tiktoken would wait for a silent network without limit.
    fetch_gpt2()
    return _from_encoding("gpt2", tiktoken.get_encoding("gpt2"))


def cache_folder() -> Path:
    """The folder where tiktoken looks for its files."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            if not os.environ[variable]:
                raise UsageError(
                    f"{variable} is empty, which turns tiktoken's cache off: unset it or name a "
                    "folder"
                )
            return Path(os.environ[variable])
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def gpt2_cache() -> dict[str, tuple[Path, str]]:
    """For each of GPT-2's two files: its path in the cache and "present", "missing" or "damaged".

    tiktoken names a cached file by the sha1 of its address.
    """
    folder = cache_folder()
    found = {}
    for name, sha256 in GPT2_FILES.items():
        path = folder / hashlib.sha1((_GPT2_URL + name).encode()).hexdigest()
        state = "missing"
        if path.is_file():
            good = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
            state = "present" if good else "damaged"
        found[name] = (path, state)
    return found


def fetch_gpt2(timeout: float = 20.0) -> list[Path]:
    """Fill the cache with GPT-2's files where they are missing; returns the files fetched.

    Raises PyllmcError, which says how to fill the cache by hand, when they cannot be had.
    """
    fetched = []
    for name, (path, state) in gpt2_cache().items():
        if state == "present":
            continue
        try:
            with urllib.request.urlopen(_GPT2_URL + name, timeout=timeout) as response:
                data = response.read()
        except (OSError, urllib.error.URLError) as error:
            raise _cannot_fetch(name, error) from error
        if hashlib.sha256(data).hexdigest() != GPT2_FILES[name]:
            raise _cannot_fetch(name, "its sha256 is not GPT-2's")
        atomic_write(path, data)
        fetched.append(path)
    return fetched


def how_to_fill_cache() -> str:
    """What a person without network can do, as the second half of a sentence."""
    wanted = " and ".join(f"{file} as {path.name}" for file, (path, _) in gpt2_cache().items())
    return (
        "on a machine with network run `pyllmc data tokenizer fetch`, copy that machine's cache "
        f"folder here and set TIKTOKEN_CACHE_DIR to it (it holds {wanted}), or use the built-in "
        "stories, `pyllmc data prepare ministories`"
    )


def _cannot_fetch(name: str, reason: object) -> PyllmcError:
    return PyllmcError(
        f"GPT-2's vocabulary is not in {cache_folder()} and {name} could not be fetched "
        f"({getattr(reason, 'reason', reason)}): {how_to_fill_cache()}"
    )
