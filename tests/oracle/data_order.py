"""The order in which training reads its token files.

A shard of n tokens is cut into floor((n - 1) / (B*T)) chunks of B*T tokens from its start; chunk k
is read as B*T + 1 tokens from k*B*T, the inputs being all but the last, the targets all but the
first. The order comes from one mt19937 generator, seeded once and running on for ever:

  at the start of every epoch   a permutation of the shards (sorted by path) is drawn
  on entering each shard of it  a permutation of that shard's chunks is drawn

Each permutation starts from the identity and swaps i with randint32 % (i + 1) for i = n-1 .. 1, so
n <= 1 draws no number. This is llm.c's order (llmc/dataloader.h, llmc/rand.h), except that from the
second epoch on llm.c shuffles the previous epoch's shard order instead of the identity; with one
shard, or within the first epoch, the two are equal.

Validation reads the shards in sorted order and their chunks in ascending order.
"""

import numpy as np


def chunks(tokens, B, T):
    """Chunks in a shard of `tokens` tokens."""
    return max(0, (tokens - 1) // (B * T))


def mt19937(seed):
    """An endless stream of the generator's 32-bit outputs, seeded as init_genrand(seed)."""
    generator = np.random.RandomState(seed)
    while True:
        yield int(generator.randint(0, 2**32, dtype=np.uint32))


def permutation(n, stream):
    """The identity of n entries, shuffled (Fisher and Yates, Durstenfeld 1964)."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = next(stream) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def training_order(shard_tokens, B, T, seed):
    """Endless (shard, chunk) pairs; shard_tokens lists the shards' token counts in path order."""
    counts = [chunks(tokens, B, T) for tokens in shard_tokens]
    if not sum(counts):
        raise ValueError(f"no shard of {shard_tokens} holds a chunk of {B * T} + 1 tokens")
    stream = mt19937(seed)
    while True:
        for shard in permutation(len(counts), stream):
            for chunk in permutation(counts[shard], stream):
                yield shard, chunk


def read(shard, chunk, B, T):
    """inputs and targets (B, T) of a chunk of `shard`, the array of the shard's tokens."""
    window = np.asarray(shard[chunk * B * T : (chunk + 1) * B * T + 1], dtype=np.int64)
    return window[:-1].reshape(B, T), window[1:].reshape(B, T)
