"""Contestants timed in turn, A B C A B C ..., so that what else the machine does hits all alike.

A ratio is taken within a round; what is quoted is the median over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyllmc.bench.machine import Peak, identity
from pyllmc.terminal import Progress


@dataclass
class Contestant:
    """One way to do a piece of work. `run` does it and returns its seconds.

    `flop` and `bytes` are what the work needs at least: floating-point operations that this way
    executes, bytes that must pass between processor and memory (0 = not meaningful). `against`
    names the contestants that its time is divided by. `run` may add to `facts`.
    """

    name: str
    run: Callable[[], float]
    flop: float = 0.0
    bytes: float = 0.0
    precision: str = "fp32"
    tokens: int = 0
    against: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median seconds over the rounds."""
        return statistics.median(self.seconds)


def compete(contestants: Sequence[Contestant], repeats: int, peak: Peak, title: str) -> None:
    """Run all contestants in turn, `repeats` rounds; the machine's peak is sampled every round."""
    with Progress(title, repeats * len(contestants), "runs") as progress:
        for done in range(repeats):
            peak.sample()
            for number, contestant in enumerate(contestants, start=1):
                contestant.seconds.append(contestant.run())
                progress.update(done * len(contestants) + number)


def ratio(a: Contestant, b: Contestant) -> float:
    """Median over the rounds of a's seconds divided by b's."""
    return statistics.median(x / y for x, y in zip(a.seconds, b.seconds, strict=True))


def result(
    bench: str, settings: Mapping[str, Any], contestants: Sequence[Contestant], peak: Peak
) -> dict[str, Any]:
    """Everything measured, as plain values for JSON."""
    by_name = {contestant.name: contestant for contestant in contestants}
    return {
        "bench": bench,
        **identity(),
        "settings": dict(settings),
        "peak": peak.as_dict(),
        "rows": [_row(contestant, by_name, peak) for contestant in contestants],
    }


def _row(c: Contestant, by_name: Mapping[str, Contestant], peak: Peak) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": c.name,
        "precision": c.precision,
        "seconds": c.seconds,
        "median_s": c.median,
        "ratios": {name: ratio(c, by_name[name]) for name in c.against if name in by_name},
    }
    if c.tokens:
        row["tokens_per_second"] = c.tokens / c.median
    if c.flop:
        row["gflop"] = c.flop / 1e9
        row["gflop_per_second"] = c.flop / c.median / 1e9
        row["fma_fraction"] = c.flop / c.median / peak.flops(c.precision)
    if c.bytes:
        row["gigabytes"] = c.bytes / 1e9
        row["copy_fraction"] = c.bytes / c.median / peak.copy
    return row | c.facts
