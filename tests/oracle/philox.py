"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"; the Random123 library), keyed by seed and tensor name.

Element 4b + i of a tensor is output i of block b:
  key     = (seed low ^ hash low, seed high ^ hash high), hash = FNV-1a 64 of the tensor's name
  counter = (b low, b high, step low, step high)
low and high are the 32-bit halves of the 64-bit number.
"""

import numpy as np

MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK32 = 0xFFFFFFFF


def fnv1a64(name):
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def philox4x32_10(counter, key):
    """counter: four words, key: two words (Python integers) -> four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = MULTIPLIER[0] * c0, MULTIPLIER[1] * c2
        c0, c1, c2, c3 = (
            product1 >> 32 ^ c1 ^ k0,
            product1 & MASK32,
            product0 >> 32 ^ c3 ^ k1,
            product0 & MASK32,
        )
        k0, k1 = k0 + WEYL[0] & MASK32, k1 + WEYL[1] & MASK32
    return c0, c1, c2, c3


def words(seed, name, count, step=0):
    """The first `count` 32-bit outputs of tensor `name` at `step`, as a list of integers."""
    mixed = seed ^ fnv1a64(name)
    key = (mixed & MASK32, mixed >> 32)
    drawn = []
    for block in range(-(-count // 4)):
        counter = (block & MASK32, block >> 32, step & MASK32, step >> 32)
        drawn += philox4x32_10(counter, key)
    return drawn[:count]


def uniform(seed, name, count, step=0):
    """(count,) numbers in (0, 1): (word + 0.5) / 2^32."""
    return (np.array(words(seed, name, count, step), dtype=np.float64) + 0.5) * 2.0**-32


def normal(seed, name, count, step=0):
    """(count,) standard normal numbers, Box and Muller 1958.

    Of a block's u0..u3: r cos(2 pi u1), r sin(2 pi u1) with r = sqrt(-2 ln u0), and the same
    with u2, u3.
    """
    u = uniform(seed, name, -(-count // 4) * 4, step).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:count]
