"""Makes assets/ministories.tiktoken: `python -m pyllmc.data.train_vocabulary [FILE]`.

Byte-level BPE on the stories that the package tells: 256 bytes, then the most frequent pair of
neighbors inside the pieces of GPT-2's split pattern, merged again and again. To be run after a
change of the stories; a test compares its result with the file in the package.
"""

from __future__ import annotations

import base64
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import regex  # type: ignore[import-untyped]

from pyllmc.data.stories import tell_stories
from pyllmc.data.tokenizers import GPT2_SPLIT
from pyllmc.files import atomic_write

VOCAB_SIZE = 1024  # with end-of-text, which is not in the file
STORIES = 3000
SEED = 0
ASSET = Path(__file__).parent / "assets" / "ministories.tiktoken"

Pair = tuple[bytes, bytes]


def train(texts: Iterable[str], size: int) -> list[bytes]:
    """The first `size` tokens by rank; of pairs that are equally frequent the smaller one is first.

    ValueError when the text has too few different pieces for that many tokens.
    """
    pieces = Counter(piece for text in texts for piece in regex.findall(GPT2_SPLIT, text))
    words = [[bytes([byte]) for byte in piece.encode()] for piece in pieces]
    weights = list(pieces.values())
    counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)

    def count(index: int, sign: int) -> None:
        for pair in zip(words[index], words[index][1:], strict=False):
            counts[pair] += sign * weights[index]
            holders[pair].add(index)

    for index in range(len(words)):
        count(index, 1)
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < size:
        pair = min(counts, key=lambda pair: (-counts[pair], pair), default=(b"", b""))
        if counts[pair] == 0:
            raise ValueError(f"the text is used up after {len(tokens)} of {size} tokens")
        tokens.append(pair[0] + pair[1])
        for index in holders.pop(pair):
            count(index, -1)
            words[index] = _merge(words[index], pair)
            count(index, 1)
        del counts[pair]
    return tokens


def _merge(word: list[bytes], pair: Pair) -> list[bytes]:
    merged: list[bytes] = []
    at = 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            merged.append(pair[0] + pair[1])
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return merged


def vocabulary_file() -> bytes:
    """The content of assets/ministories.tiktoken."""
    tokens = train(tell_stories(STORIES, SEED), VOCAB_SIZE - 1)
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


if __name__ == "__main__":
    atomic_write(sys.argv[1] if len(sys.argv) > 1 else ASSET, vocabulary_file())
