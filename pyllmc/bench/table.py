"""A benchmark's result as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show(result: Mapping[str, Any]) -> None:
    """Print to stdout: the machine, its peak, one row a contestant."""
    # Off a terminal there is no width to keep to.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    peak = result["peak"]
    commit = (result["commit"] or "no checkout")[:10]
    changed = " with uncommitted changes" if result["uncommitted_changes"] else ""
    console.print(f"{result['date']}  {result['processor']}  commit {commit}{changed}")
    rates = ", ".join(
        f"{rate:.0f} GFLOP/s {precision} ({peak['isa'][precision]})"
        for precision, rate in peak["gflop_per_second"].items()
    )
    console.print(
        f"peak with {peak['threads']} thread{'s' if peak['threads'] != 1 else ''}: {rates}, copy "
        f"{peak['copy_gb_per_second']:.1f} GB/s, read {peak['read_gb_per_second']:.1f} GB/s"
    )
    console.print("  ".join(f"{key}={_setting(v)}" for key, v in result["settings"].items()))
    columns = _columns(result)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(columns):
        last = number == len(columns) - 1 and name == "time as a share of"
        table.add_column(name, justify="left" if number == 0 or last else "right")
    for row in result["rows"]:
        table.add_row(*(_cell(name, row) for name in columns))
    console.print(table)


def _columns(result: Mapping[str, Any]) -> list[str]:
    rows = result["rows"]
    wanted = {
        "tokens/s": "tokens_per_second",
        "GFLOP/s": "gflop_per_second",
        "of FMA peak": "fma_fraction",
        "of copy": "copy_fraction",
        "peak MiB": "peak_memory",
    }
    shown = [name for name, key in wanted.items() if any(row.get(key) for row in rows)]
    ratios = ["time as a share of"] if any(row["ratios"] for row in rows) else []
    return ["", "median ms", "range", *shown, *ratios]


def _cell(column: str, row: Mapping[str, Any]) -> str:
    times = [1e3 * seconds for seconds in row["seconds"]]
    match column:
        case "":
            return row["name"]
        case "median ms":
            return _ms(1e3 * row["median_s"])
        case "range":
            return f"{_ms(min(times))}–{_ms(max(times))}"
        case "tokens/s":
            return f"{row['tokens_per_second']:,.0f}" if "tokens_per_second" in row else ""
        case "GFLOP/s":
            return f"{row['gflop_per_second']:.1f}" if "gflop_per_second" in row else ""
        case "of FMA peak":
            return f"{row['fma_fraction']:.3f}" if "fma_fraction" in row else ""
        case "of copy":
            return f"{row['copy_fraction']:.3f}" if "copy_fraction" in row else ""
        case "peak MiB":
            return f"{row['peak_memory'] / 2**20:.0f}" if row.get("peak_memory") else ""
    return "\n".join(f"{value:.3f} {name}" for name, value in row["ratios"].items())


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _setting(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
