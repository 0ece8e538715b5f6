"""What a GPT-2 of a given shape holds and computes, counted. C = channels, H = hidden units."""

from __future__ import annotations

from typing import Any

# A multiply-add is 2 FLOPs; backward does each product of forward twice.
TRAINING_FLOPS_PER_MAC = 6

# Columns of PanelEngine::narrow() on every processor (csrc/core/panel_tiles.cpp).
_PANEL = 16


def padded_vocab(vocab: int) -> int:
    """Vp: V rounded up to 128."""
    return -(-vocab // 128) * 128


def mlp_weights(channels: int, hidden: int, rank: int = 0) -> int:
    """Weights of a layer's FC1 and FC2; of rank r those of the factors whose products they are."""
    return 2 * (rank * (hidden + channels) if rank else hidden * channels)


def parameters(
    *, channels: int, layers: int, context: int, padded_vocab: int, hidden: int, mlp: int
) -> int:
    """All weights, biases and embeddings; `mlp` those of FC1 and FC2 in all layers."""
    # A layer: attention's 4 C² + 4 C, two norms' 4 C, the MLP's biases. Then the final norm.
    layer = 4 * channels * channels + 8 * channels + hidden + channels
    return (padded_vocab + context + 2) * channels + layers * layer + mlp


def forward_macs(
    *, channels: int, layers: int, sequence_length: int, vocab: int, mlp: float
) -> float:
    """Multiply-adds a token of a forward pass; `mlp` those of FC1 and FC2 in all layers.

    4 C² a layer in attention's matrices, (T + 1) C a layer in causal attention (scores and mix,
    each over (T + 1) / 2 positions on average), and C V in the output head.
    """
    layer = 4 * channels * channels + (sequence_length + 1) * channels
    return layers * layer + mlp + channels * vocab


def band_macs(weight: str, pattern: Any) -> float:
    """Multiply-adds a token of a diagonal band that is multiplied alone: the mean of a training
    step's three products, on a CPU. `weight` is "fc1" or "fc2", `pattern` its _core.Pattern.

    The product that makes hidden units and that of dw go over the band's tiles. The third sums over
    hidden units (FC1's dx, FC2's forward): by panels of 16 channels, over all that any of these
    sees, from an even one on.
    """
    channels, seen_by = (
        (pattern.cols, pattern.outputs_of) if weight == "fc1" else (pattern.rows, pattern.inputs_of)
    )
    panels = 0
    for first in range(0, channels, _PANEL):
        begin, end = seen_by(first, min(channels, first + _PANEL))
        panels += _PANEL * max(0, end - begin // 2 * 2)
    return (2 * pattern.tile_floats + panels) / 3
