"""What the parts of the check wrote, read and laid beside its targets."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from typing import Any

Result = dict[str, Any]

# Of what is measured: a share of the fastest peer's time, and ms.
TARGETS: dict[str, tuple[float | None, float | None]] = {
    "step C=128 L=4 B=16 T=256 bf16": (0.7, 1.0),
    "ten runs of 5,000 steps": (None, 90_000.0),
    "step C=512 L=8 B=16 T=512 bf16": (0.8, None),
    "fc1 C=1024 M=16384 bf16 band 512": (1 / 2.5, None),
    "fc1 C=1024 M=16384 bf16 band 1024": (1 / 1.6, None),
    "step C=768 L=12 B=32 T=1024 bf16": (1.0, None),
}
COPY, PRODUCT = "copy of 2 GiB", "product of 8192 x 8192 bf16"


def results_in(text: str) -> list[Result]:
    """The JSON lines of what a benchmark wrote; one that was stopped may leave half a line."""
    found = []
    for line in text.splitlines():
        if line.startswith('{"name"'):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def sanitizer_verdict(text: str, state: str = "passed") -> tuple[str, str]:
    """State and note of what compute-sanitizer wrote, a summary a process. What failed all the same
    stays so."""
    counts = [int(n) for n in re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)]
    if not counts:
        return "failed", "compute-sanitizer gave no summary"
    if any(counts):
        return "failed", f"{sum(counts)} errors in {len(counts)} runs"
    return state, f"no errors in {len(counts)} runs" + ", which failed" * (state == "failed")


def kernel_times(shape: str, text: str) -> list[Result]:
    """Milliseconds of every kernel by name, from ncu's CSV, the longest first."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    sums: dict[str, list[float]] = {}
    for row in csv.DictReader(lines):
        scale = {"ns": 1e-6, "us": 1e-3, "ms": 1.0}.get(row.get("Metric Unit", ""), 1e-6)
        value = float(row["Metric Value"].replace(",", "")) * scale
        sums.setdefault(row["Kernel Name"].split("(")[0][:90], []).append(value)
    return [
        {"name": f"{shape}: {len(times)} x {name}", "ms": sum(times)}
        for name, times in sorted(sums.items(), key=lambda item: -sum(item[1]))
    ]


def fastest_peer(result: Result, results: list[Result]) -> Result | None:
    """The fastest of those whose names begin with what a result is held against."""
    against = result.get("against")
    peers = [r for r in results if against and r["name"].startswith(against) and r is not result]
    return min(peers, key=lambda r: r["ms"], default=None)


def floor_ms(result: Result, results: list[Result]) -> float | None:
    """The time that a result's operations and bytes take at this machine's measured peaks."""
    rates = {r["name"]: r["rate"] for r in results if "rate" in r}
    if "flops" not in result or not {COPY, PRODUCT} <= rates.keys():
        return None
    return 1e3 * max(result["flops"] / rates[PRODUCT], result["bytes"] / rates[COPY])


def judged(result: Result, share: float | None) -> str:
    """A result's target, and whether it is reached; empty when it has none."""
    name, ms = result["name"], result["ms"]
    found = (t for start, t in TARGETS.items() if name == start or name.startswith(f"{start}, "))
    ratio, most = next(found, (None, None))
    words, missed = [], False
    if ratio is not None:
        words.append(f"{ratio:.2f}x")
        missed |= share is not None and share > ratio
    if most is not None:
        words.append(f"{most:g} ms")
        missed |= ms > most
    if missed:
        words.append("missed")
    elif words and (ratio is None or share is not None):
        words.append("reached")
    return " ".join(words)


def table(results: list[Result]) -> list[str]:
    """A line a result: ms, its floor, its share of the fastest peer's time, its target."""
    lines = []
    for result in results:
        floor, peer = floor_ms(result, results), fastest_peer(result, results)
        share = result["ms"] / peer["ms"] if peer else None
        of = peer["name"] if peer else ""
        if "rate" in result:
            of = f"{result['rate']:.3g} {result['unit']}"
        cells = [
            f"{result['name']:46}{result['ms']:11.3f}",
            f"{floor:8.3f}" if floor is not None else " " * 8,
            f"{share:7.2f}x" if share is not None else " " * 8,
            f"{judged(result, share):22}",
            of,
        ]
        lines.append(" ".join(cells).rstrip())
    head = f"{'':46}{'ms':>11} {'floor':>8} {'share':>8} {'target':22} of"
    return [head, *lines] if lines else []
