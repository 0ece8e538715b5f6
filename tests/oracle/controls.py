"""The patterns that stand beside the band, entry by entry: what each one's mask must be.

Draws come from Philox streams: index i of a stream is floor(word * n / 2^32).
"""

import numpy as np

from . import band, philox


class Stream:
    """Numbers in [0, n), one Philox word each."""

    def __init__(self, seed, name, count):
        self.words = iter(philox.words(seed, name, count))

    def next(self, n):
        return next(self.words) * n >> 32


def choose(stream, items, count):
    """Fisher and Yates from the front, in place: the first `count` items are the choice."""
    for i in range(min(count, len(items) - 1)):
        j = i + stream.next(len(items) - i)
        items[i], items[j] = items[j], items[i]


def shuffled(seed, name, n):
    """Where each of n numbers goes: place[p] of number p."""
    place = list(range(n))
    choose(Stream(seed, name, n), place, n)
    return place


def random_mask(rows, cols, kept, seed, weight):
    """(rows, cols) booleans with round(kept / rows) in every row."""
    count = max(1, (2 * kept + rows) // (2 * rows))
    stream = Stream(seed, "mask of " + weight, rows * count)
    mask, columns = np.zeros((rows, cols), dtype=bool), list(range(cols))
    for row in range(rows):
        choose(stream, columns, count)
        mask[row, columns[:count]] = True
    return mask


def permuted_fc1_mask(H, C, bandwidth, kind, seed, layer):
    """(H, C) booleans of FC1; FC2's is the transpose."""
    mask = np.zeros((H, C), dtype=bool)
    straight = band.fc1_mask(H, C, bandwidth)
    if kind == "band-permuted-residual":
        mask[:, shuffled(seed, "residual order of " + layer, C)] = straight
    else:
        mask[shuffled(seed, "hidden order of " + layer, H)] = straight
    return mask
