"""Small models and token files that an oracle and the core both start from."""

from dataclasses import dataclass

import numpy as np

from . import gpt2


@dataclass(frozen=True)
class Shape:
    """Dimensions of a model and its batches; str() spells them for a test's id."""

    B: int
    T: int
    C: int
    L: int
    NH: int
    V: int
    Vp: int
    max_T: int

    def __str__(self):
        return "-".join(f"{name}{value}" for name, value in vars(self).items())


def write_model(path, shape, seed=1):
    """Writes a model of random weights (gpt2.random_parameters) and returns its oracle."""
    from pyllmc._core import read_checkpoint, write_checkpoint

    header = {
        "max_seq_len": shape.max_T,
        "vocab_size": shape.V,
        "num_layers": shape.L,
        "num_heads": shape.NH,
        "channels": shape.C,
        "padded_vocab_size": shape.Vp,
    }
    tensors = gpt2.random_parameters(shape.C, shape.L, shape.max_T, shape.Vp, seed)
    write_checkpoint(path, header, tensors)
    return gpt2.GPT2.from_checkpoint(*read_checkpoint(path))


def write_tokens(path, tokens):
    """Writes a token file of llm.c's layout."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.asarray(tokens, dtype="<u2").tobytes())
