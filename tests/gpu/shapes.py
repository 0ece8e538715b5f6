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

# One linear layer: M rows, C channels, hidden width 4C.
LINEAR_ROWS, LINEAR_CHANNELS = 16_384, 1024
LINEAR_BANDWIDTHS = (512, 1024)


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
