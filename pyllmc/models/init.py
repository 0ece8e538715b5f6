"""Initial weights of a GPT-2 as a checkpoint file."""

from __future__ import annotations

from pathlib import Path


def init_model(
    path: Path,
    channels: int,
    layers: int,
    heads: int,
    context: int,
    vocab: int,
    init: str = "gpt2",
    seed: int = 1337,
    hidden: int = 0,
    mlp_rank: int = 0,
) -> None:
    """Write the initial weights of a GPT-2 to `path`.

    C = channels, L = layers, NH = heads, maxT = context, V = vocab; Vp is V rounded up to 128.
    `hidden` is the MLP's width H, 0 for 4C; `mlp_rank` r makes FC1 (H x r)(r x C) and FC2
    (C x r)(r x H), 0 for full matrices. The file has llm.c's version 3 layout where that can say
    it (H = 4C, full matrices), else pyllmc's own.
    `init` is "gpt2" (N(0, 0.02), residual projections divided by sqrt(2 L), biases 0) or
    "original" (experiments 7 to 9: every matrix N(0, 0.02), Linear biases U(±1/sqrt(inputs))).
    Equal seeds give equal bytes. Raises UsageError for an impossible shape or seed, WriteError
    when the file cannot be written.
    """
    from pyllmc import _core

    _core.init_checkpoint(
        str(path), channels, layers, heads, context, vocab, init, seed, hidden, mlp_rank
    )
