"""Drawing the next token from logits."""

import numpy as np


def probabilities(logits, temperature=1.0, top_k=0):
    """softmax(logits / temperature) over the top_k largest logits; the others get 0.

    top_k 0 keeps all. Of equal logits the lower ids are kept first; temperature 0 keeps one.
    """
    if temperature == 0:
        return (np.arange(len(logits)) == np.argmax(logits)).astype(np.float64)
    kept = np.zeros(len(logits), dtype=bool)
    kept[np.argsort(-logits, kind="stable")[: top_k or len(logits)]] = True
    scaled = np.where(kept, logits / temperature, -np.inf)
    p = np.exp(scaled - scaled.max())
    return p / p.sum()


def pick(probabilities, coin):
    """The first id whose cumulative probability exceeds coin, a number in [0, 1).

    When rounding leaves the total at or below the coin: the last id with a probability above 0.
    """
    above = np.flatnonzero(np.cumsum(probabilities) > coin)
    return int(above[0] if len(above) else np.flatnonzero(probabilities)[-1])
