"""What the GPU benchmark trains, for our side and for PyTorch's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

# channels, layers, heads, vocabulary, B, T
SHAPES = {
    "C=128 L=4 B=16 T=256": (128, 4, 4, 50257, 16, 256),
    "C=512 L=8 B=16 T=512": (512, 8, 8, 50257, 16, 512),
    "C=768 L=12 B=32 T=1024": (768, 12, 12, 50257, 32, 1024),
}

# PyTorch's products want a round vocabulary; ours are of the padded one anyway.
ROUND_VOCAB = 50304

# One linear layer: M rows, C channels, hidden width 4C.
LINEAR_ROWS, LINEAR_CHANNELS = 16_384, 1024
LINEAR_BANDWIDTHS = (512, 1024)


def step_work(shape: str) -> dict[str, float]:
    """What a dense step cannot do without: operations, and the bytes of the bf16 logits, which are
    written twice and read three times."""
    # Not above: PyTorch's side imports nothing of ours.
    from pyllmc.models.shape import TRAINING_FLOPS_PER_MAC, forward_macs, mlp_weights

    C, L, _, V, B, T = SHAPES[shape]
    mlp = L * mlp_weights(C, 4 * C)
    macs = forward_macs(channels=C, layers=L, sequence_length=T, vocab=V, mlp=mlp)
    return {"flops": TRAINING_FLOPS_PER_MAC * macs * B * T, "bytes": 10.0 * B * T * V}


def linear_work(density: float) -> dict[str, float]:
    """The same of one MLP layer in bf16: x and y of forward; x, dy and dx of backward."""
    M, C = LINEAR_ROWS, LINEAR_CHANNELS
    return {"flops": 24.0 * M * C * C * density, "bytes": 2.0 * M * (5 * C + 6 * C)}


def timed(once: Callable[[], object], seconds: float, warm: int = 5) -> dict[str, float]:
    """Median and 90th percentile, in ms, of calls that return when their work is done."""
    for _ in range(warm):
        once()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 20 or (time.perf_counter() < end and len(times) < 500):
        begin = time.perf_counter()
        once()
        times.append(1e3 * (time.perf_counter() - begin))
    times.sort()
    return {
        "ms": statistics.median(times),
        "ms_90": times[9 * len(times) // 10],
        "calls": len(times),
    }
