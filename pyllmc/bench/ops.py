"""The linear layers and the loss alone, timed inside C++ on memory that is allocated once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pyllmc.bench.peer import MODES, TorchPeer
from pyllmc.bench.rounds import Contestant
from pyllmc.errors import UsageError
from pyllmc.models.shape import band_macs

LAYERS = ("fc1", "fc2")


def linear_contestants(
    *,
    tokens: int,
    channels: int,
    hidden: int,
    layers: Sequence[str],
    bandwidths: Sequence[int],
    executions: Sequence[str],
    precisions: Sequence[str],
    threads: int,
    calls: int,
    peer: TorchPeer | None,
) -> list[Contestant]:
    """Forward and backward (dx, dw, db) of each layer: dense, each bandwidth and execution, and
    torch's matrix product. A round's time is the median over `calls` pairs of passes. Raises
    UsageError for a bandwidth that keeps everything."""
    from pyllmc._core import Pattern

    for bandwidth in bandwidths:
        if Pattern.make("band", hidden, channels, "rows", bandwidth).is_dense:
            raise UsageError(
                f"a band of {bandwidth} leaves nothing out of a weight between {hidden} hidden "
                f"units and {channels} channels, which is timed as dense: give smaller --bandwidths"
            )
    found = []
    work = 6.0 * tokens * channels * hidden  # 2 forward, 4 backward
    for layer in layers:
        for precision in precisions:
            dense, theirs = f"{layer} dense {precision}", f"torch {layer} {precision}"
            alike = () if peer is None else (theirs,)
            variants = [(dense, 0, "mask", alike)]
            variants += [
                (f"{layer} {execution} {bandwidth} {precision}", bandwidth, execution, held)
                for bandwidth in bandwidths
                for execution in executions
                for held in [(dense, *alike)]
            ]
            if peer is not None:
                config: dict[str, Any] = {
                    "M": tokens,
                    "channels": channels,
                    "hidden": hidden,
                    "which": layer,
                }
                found.append(
                    peer.contestant(
                        theirs,
                        "linear",
                        repeats=calls,
                        threads=threads,
                        precision=precision,
                        flop=work,
                        bytes=_linear_bytes(tokens, channels, hidden, channels * hidden),
                        tokens=tokens,
                        **config,
                    )
                )
            found += [
                _linear(
                    name,
                    {
                        "M": tokens,
                        "channels": channels,
                        "hidden": hidden,
                        "which": layer,
                        "bandwidth": bandwidth,
                        "execution": execution,
                        "precision": precision,
                        "threads": threads,
                        "repeats": calls,
                    },
                    work,
                    against,
                )
                for name, bandwidth, execution, against in variants
            ]
    return found


def _linear(name: str, config: dict[str, Any], work: float, against: tuple[str, ...]) -> Contestant:
    from pyllmc._core import Pattern, bench

    facts: dict[str, Any] = {"bandwidth": config["bandwidth"], "execution": config["execution"]}
    channels, hidden = config["channels"], config["hidden"]
    pattern = Pattern.make("band", hidden, channels, "rows", config["bandwidth"])
    alone = config["execution"] == "band"
    floats = pattern.tile_floats if alone else pattern.total
    facts |= {
        "density": pattern.density,
        "floats": floats,
        "share_of_dense_memory": floats / pattern.total,
        "executed": band_macs("fc1", pattern) / pattern.total if alone else 1.0,
    }

    def run() -> float:
        times = bench.linear(**config)
        for part in ("forward", "backward"):
            facts.setdefault(f"{part}_s", []).append(statistics.median(times[part]))
        return statistics.median(
            a + b for a, b in zip(times["forward"], times["backward"], strict=True)
        )

    return Contestant(
        name,
        run,
        flop=work * facts["executed"],
        bytes=_linear_bytes(config["M"], channels, hidden, floats),
        precision=config["precision"],
        tokens=config["M"],
        against=against,
        facts=facts,
    )


def _linear_bytes(tokens: int, channels: int, hidden: int, floats: int) -> float:
    """x, w and y of forward; dy, x, w, dx and dw (read and written) of backward, fp32."""
    return 4.0 * (3 * tokens * (channels + hidden) + 4 * floats - tokens * min(channels, hidden))


def loss_contestants(
    *,
    tokens: int,
    channels: int,
    vocab: int,
    precisions: Sequence[str],
    threads: int,
    calls: int,
    peer: TorchPeer | None,
) -> list[Contestant]:
    """Output head and cross-entropy with gradients of both inputs."""
    from pyllmc._core import bench

    sizes: dict[str, Any] = {"M": tokens, "channels": channels, "vocab": vocab}
    # x and dx, wte read in both passes, dwte read and written; the logits may stay in caches.
    common: dict[str, Any] = {
        "flop": 6.0 * tokens * channels * vocab,
        "bytes": 4.0 * channels * (2 * tokens + 4 * vocab),
        "tokens": tokens,
    }
    theirs = []
    if peer is not None:
        theirs = [
            peer.contestant(
                f"torch {mode} {precision}",
                "loss",
                repeats=calls,
                threads=threads,
                precision=precision,
                mode=mode,
                **sizes,
                **common,
            )
            for mode, precision in MODES
            if precision in precisions
        ]
    ours = []
    for precision in precisions:
        facts: dict[str, Any] = {}

        def run(precision: str = precision, facts: dict[str, Any] = facts) -> float:
            times = bench.classifier(**sizes, precision=precision, threads=threads, repeats=calls)
            facts.setdefault("loss_alone_s", []).append(statistics.median(times["loss"]))
            return statistics.median(times["loss_and_gradients"])

        ours.append(
            Contestant(
                f"head and loss {precision}",
                run,
                precision=precision,
                against=tuple(c.name for c in theirs if c.precision == precision),
                facts=facts,
                **common,
            )
        )
    return [*theirs, *ours]
