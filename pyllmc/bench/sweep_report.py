"""A sweep as markdown tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyllmc.files import atomic_writer


def markdown(found: Mapping[str, Any]) -> str:
    """Machine, date, commit, one table a width and one for each axis of scaling."""
    commit = found["commit"] or "no checkout"
    changed = " with uncommitted changes" if found["uncommitted_changes"] else ""
    settings = found["settings"]
    lines = [
        "# A training step against bandwidth, and its growth with B, T, C and L",
        "",
        f"{found['date']}, {found['processor']}, {settings['threads']} threads, commit {commit}"
        f"{changed}, pyllmc {found['versions']['pyllmc']}.",
        "",
        f"L={settings['layers']} V={settings['vocab']} B={settings['batch_size']} "
        f"T={settings['sequence_length']}, both MLP weights banded. Median of "
        f"{settings['repeats']} alternating rounds of {settings['steps']} timed steps each; ratios "
        "are taken within a round. MLP memory is that of weights, gradients and both moments of a "
        "layer; peak memory is the whole process's.",
    ]
    for name, part in found["parts"].items():
        lines += [
            "",
            *(_bands(name, part) if name.startswith("bandwidth") else _scaling(found, name)),
        ]
    lines += ["", "![Step time and memory against bandwidth](sweep.png)", ""]
    return "\n".join(lines)


def _bands(name: str, part: Mapping[str, Any]) -> list[str]:
    _, channels, precision = name.split("_")
    lines = [
        f"## {channels[0]} = {channels[1:]}, {precision}",
        "",
        _peak(part),
        "",
        "| bandwidth | density | step, ms | of dense | of FMA peak | MLP memory, MiB | of dense | "
        "peak memory, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['name']} | {row['density']:.3f} | {1e3 * row['median_s']:.4g} "
            f"| {row['ratios'].get('dense', 1):.3f} | {row['fma_fraction']:.3f} "
            f"| {row['mlp_bytes'] / 2**20:.2f} | {row['mlp_share_of_dense']:.3f} "
            f"| {row['peak_memory'] / 2**20:.0f} |"
        )
    return lines


def _scaling(found: Mapping[str, Any], name: str) -> list[str]:
    _, axis, precision = name.split("_")
    part = found["parts"][name]
    lines = [
        f"## Scaling with {axis}, {precision}: log-log slope {found['slopes'][name]:.2f}",
        "",
        _peak(part),
        "",
        "| size | step, ms | GFLOP/s | of FMA peak | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['name']} | {1e3 * row['median_s']:.4g} | {row['gflop_per_second']:.1f} "
            f"| {row['fma_fraction']:.3f} | {row['peak_memory'] / 2**20:.0f} |"
        )
    return lines


def _peak(part: Mapping[str, Any]) -> str:
    peak = part["peak"]
    rates = ", ".join(
        f"{rate:.0f} GFLOP/s {precision}" for precision, rate in peak["gflop_per_second"].items()
    )
    return (
        f"Peak in the same run: {rates}, copy {peak['copy_gb_per_second']:.1f} GB/s, read "
        f"{peak['read_gb_per_second']:.1f} GB/s."
    )


def draw(found: Mapping[str, Any], out: Path) -> list[Path]:
    """sweep.png and sweep.svg: time and memory as shares of dense against bandwidth / 4C."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "pyllmc"
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    titles = ("step time", "MLP weights, gradients, moments", "peak memory of the process")
    for name, part in found["parts"].items():
        if not name.startswith("bandwidth"):
            continue
        _, channels, precision = name.split("_")
        dense, *rows = part["rows"]
        x = [row["shape"]["fc1_bandwidth"] / (4 * row["shape"]["channels"]) for row in rows]
        series = (
            [row["ratios"]["dense"] for row in rows],
            [row["mlp_share_of_dense"] for row in rows],
            [row["peak_memory"] / dense["peak_memory"] for row in rows],
        )
        style = "o-" if precision == "fp32" else "s--"
        for panel, values in zip(panels, series, strict=True):
            panel.plot(x, values, style, label=f"C = {channels[1:]}, {precision}")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log", base=2)
        panel.axhline(1, color="0.6", linewidth=1, zorder=0)
        panel.set_ylim(bottom=0)
        panel.set_title(title)
        panel.set_xlabel("bandwidth / 4C")
    panels[0].set_ylabel("share of dense")
    panels[0].legend()
    paths = [out / "sweep.png", out / "sweep.svg"]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with atomic_writer(path) as stream:
            figure.savefig(stream, format=path.suffix[1:], dpi=150, metadata=metadata)
    return paths
