"""Decoding on one thread against the rate at which one core reads the weights."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyllmc.bench.rounds import Contestant


def generate_contestants(
    *,
    channels: int,
    layers: int,
    heads: int,
    context: int,
    vocab: int,
    tokens: int,
    precisions: Sequence[str],
) -> list[Contestant]:
    """Drawing `tokens` tokens from random weights, and reading as many bytes as that reads weights.

    A token reads every weight once: all parameters but the position embeddings, and of the tied
    embedding the V real rows. In bf16 matrices take half the bytes.
    """
    from pyllmc._core import Model
    from pyllmc.models.init import init_model

    with tempfile.TemporaryDirectory(prefix="pyllmc-bench-") as folder:
        path = Path(folder, "model.bin")
        init_model(path, channels, layers, heads, context, vocab)
        models = {precision: Model(str(path), precision=precision) for precision in precisions}
    names = [f"generate {precision}" for precision in precisions]
    found: list[Contestant] = []
    for name, (precision, model) in zip(names, models.items(), strict=True):
        each = _bytes_per_token(model, vocab, precision)
        reading = _reading(f"reading {precision} weights", each, tokens)
        others = [other for other in names[:1] if other != name]
        found += [_drawing(name, model, each, tokens, (reading.name, *others)), reading]
    return found


def _bytes_per_token(model: Any, vocab: int, precision: str) -> int:
    total = 0
    for parameter in model.parameters():
        rows, *cols = parameter.shape
        rows = {"wte": vocab, "wpe": 0}.get(parameter.name, rows)
        total += rows * math.prod(cols) * (2 if precision == "bf16" and cols else 4)
    return total


def _drawing(name: str, model: Any, each: int, tokens: int, against: tuple[str, ...]) -> Contestant:
    def run() -> float:
        start = time.perf_counter()
        drawn = model.generate([0], tokens)
        return (time.perf_counter() - start) * tokens / len(drawn)

    return Contestant(
        name,
        run,
        bytes=float(each * tokens),
        tokens=tokens,
        against=against,
        facts={"bytes_per_token": each},
    )


def _reading(name: str, each: int, tokens: int) -> Contestant:
    from pyllmc._core import bench

    def run() -> float:
        result = bench.read_bandwidth(1, each, tokens)
        return sum(result["seconds"]) * each / result["bytes"]

    return Contestant(name, run, bytes=float(each * tokens), tokens=tokens)
