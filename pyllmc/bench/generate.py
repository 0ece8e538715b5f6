"""Decoding on one thread against the rate at which one core reads the weights."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pyllmc.bench.rounds import Contestant


def generate_contestants(
    *, channels: int, layers: int, heads: int, context: int, vocab: int, tokens: int
) -> list[Contestant]:
    """Drawing `tokens` tokens from random weights, and reading as many bytes as that reads weights.

    A token reads every weight once: all parameters but the position embeddings, and of the tied
    embedding the V real rows.
    """
    from pyllmc._core import Model, bench
    from pyllmc.models.init import init_model

    with tempfile.TemporaryDirectory(prefix="pyllmc-bench-") as folder:
        path = Path(folder, "model.bin")
        init_model(path, channels, layers, heads, context, vocab)
        model = Model(str(path))
    floats = sum(p.packed().size for p in model.parameters() if p.name not in ("wte", "wpe"))
    each = 4 * (floats + vocab * channels)

    def generate() -> float:
        start = time.perf_counter()
        drawn = model.generate([0], tokens)
        return (time.perf_counter() - start) * tokens / len(drawn)

    def read() -> float:
        result = bench.read_bandwidth(1, each, tokens)
        return sum(result["seconds"]) * each / result["bytes"]

    reading = Contestant("reading the weights", read, bytes=float(each * tokens), tokens=tokens)
    return [
        Contestant(
            "generate fp32",
            generate,
            flop=2.0 * (each / 4) * tokens,
            bytes=float(each * tokens),
            tokens=tokens,
            against=(reading.name,),
            facts={"bytes_per_token": each},
        ),
        reading,
    ]
