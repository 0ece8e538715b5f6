"""A sweep as markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(found: Mapping[str, Any]) -> str:
    """Machine, one table a width and one for each axis of scaling, each with date and commit."""
    settings, any_part = found["settings"], next(iter(found["parts"].values()))
    lines = [
        "# A training step against bandwidth, and its growth with B, T, C and L",
        "",
        f"{any_part['processor']}, {settings['threads']} threads; L={settings['layers']} "
        f"V={settings['vocab']} B={settings['batch_size']} T={settings['sequence_length']} unless "
        "varied, both MLP weights banded. Time: median of "
        f"{settings['repeats']} alternating rounds of at least {settings['steps']} timed steps "
        "each; ratios are medians of those taken within a round. MLP memory is that of weights, "
        "gradients and both moments of a layer; its share of dense is also the share of the dense "
        "work that two of a step's three products of a band do, and the third does little more (a "
        "band that saves too little is stored and multiplied as a whole matrix). Peak memory is "
        "the whole process's.",
        "",
        "![Step time and memory against bandwidth](bandwidth.png)",
        "",
        "![Step time against B, T, C and L](scaling.png)",
    ]
    for name, part in found["parts"].items():
        lines += [
            "",
            *(_bands(name, part) if name.startswith("bandwidth") else _scaling(found, name)),
        ]
    return "\n".join(lines) + "\n"


def _bands(name: str, part: Mapping[str, Any]) -> list[str]:
    _, channels, precision = name.split("_")
    lines = [
        f"## {channels[0]} = {channels[1:]}, {precision}",
        "",
        _measured(part),
        "",
        "| bandwidth | density | step, ms | of dense | of FMA peak | MLP memory, MiB | of dense "
        "| peak memory, MiB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['name']} | {row['density']:.3f} | {1e3 * row['median_s']:.4g} "
            f"| {row['ratios'].get('dense', 1):.3f} "
            f"| {row['fma_fraction']:.3f} | {row['mlp_bytes'] / 2**20:.2f} "
            f"| {row['mlp_share_of_dense']:.3f} | {row['peak_memory'] / 2**20:.0f} |"
        )
    return lines


def _scaling(found: Mapping[str, Any], name: str) -> list[str]:
    _, axis, precision = name.split("_")
    part, slopes = found["parts"][name], found["slopes"][name]
    channels = part["rows"][0]["shape"]["channels"]
    lines = [
        f"## Scaling with {axis}, {precision}: log-log slope {slopes['step']:.2f}",
        "",
        f"Dense{'' if axis == 'C' else f', C={channels}'}. The arithmetic's slope is "
        f"{slopes['arithmetic']:.2f}. {_measured(part)}",
        "",
        "| size | step, ms | GFLOP/s | of FMA peak | peak memory, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['name']} | {1e3 * row['median_s']:.4g} | {row['gflop_per_second']:.1f} "
            f"| {row['fma_fraction']:.3f} | {row['peak_memory'] / 2**20:.0f} |"
        )
    return lines


def _measured(part: Mapping[str, Any]) -> str:
    peak = part["peak"]
    rates = ", ".join(
        f"{rate:.0f} GFLOP/s {precision}" for precision, rate in peak["gflop_per_second"].items()
    )
    commit = (part["commit"] or "no checkout")[:10]
    changed = " with uncommitted changes" if part["uncommitted_changes"] else ""
    return (
        f"{part['date']}, commit {commit}{changed}; peak in the same run: {rates}, copy "
        f"{peak['copy_gb_per_second']:.1f} GB/s, read {peak['read_gb_per_second']:.1f} GB/s."
    )
