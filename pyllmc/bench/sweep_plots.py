"""A sweep as plots: bandwidth.png and scaling.png, each as .svg too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from pyllmc.files import atomic_write
from pyllmc.report.drawing import MARKERS, PALETTE, figure_of, legend

_STYLES = {"fp32": "-", "bf16": "--"}
_GREY = "#666666"
_WORDS = {"B": "sequences B", "T": "tokens of a sequence T", "C": "channels C", "L": "layers L"}


def draw(found: Mapping[str, Any], out: Path) -> list[Path]:
    """Write both plots; the files written."""
    paths = []
    for name, pictures in (("bandwidth", _bandwidth(found)), ("scaling", _scaling(found))):
        for kind, data in pictures.items():
            paths.append(out / f"{name}.{kind}")
            atomic_write(paths[-1], data)
    return paths


def _bandwidth(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Step time and memory against bandwidth / 4C: on the left of the whole process in ms and MiB,
    on the right the time, and the memory of the MLP, as shares of dense."""
    parts = {name: p for name, p in found["parts"].items() if name.startswith("bandwidth")}
    widths = list(dict.fromkeys(name.split("_")[1] for name in parts))
    with figure_of(7.2) as (figure, done):
        (time, time_share), (memory, memory_share) = figure.subplots(2, 2, sharex=True)
        handles, labels = [], []
        for name, part in parts.items():
            _, channels, precision = name.split("_")
            number = widths.index(channels)
            style = {
                "color": PALETTE[number % len(PALETTE)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": _STYLES[precision],
            }
            dense, *rows = part["rows"]
            x = [row["shape"]["fc1_bandwidth"] / (4 * row["shape"]["channels"]) for row in rows]
            for axes, values in (
                (time, [1e3 * row["median_s"] for row in rows]),
                (time_share, [row["ratios"]["dense"] for row in rows]),
                (memory, [row["peak_memory"] / 2**20 for row in rows]),
                (memory_share, [row["mlp_share_of_dense"] for row in rows]),
            ):
                (handle,) = axes.plot(x, values, **style)
            handles.append(handle)
            labels.append(f"C = {channels[1:]}, {precision}")
            for axes, value in (
                (time, 1e3 * dense["median_s"]),
                (memory, dense["peak_memory"] / 2**20),
            ):
                axes.axhline(value, color=style["color"], linestyle=":", linewidth=1.2)
            if precision == "fp32":
                shares = [row["flop_share_of_dense"] for row in rows]
                time_share.plot(x, shares, color=style["color"], linestyle=":", linewidth=1.2)
        for axes, title, unit in (
            (time, "time of a step (dotted: dense)", "ms"),
            (time_share, "the same of dense (dotted: arithmetic)", "share of dense"),
            (memory, "peak memory of the process (dotted: dense)", "MiB"),
            (memory_share, "MLP weights, gradients and moments", "share of dense"),
        ):
            axes.set_title(title, fontsize=10)
            axes.set_ylabel(unit)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(_fraction))
            if unit == "share of dense":
                axes.axhline(1, color=_GREY, linewidth=1)
                axes.set_ylim(bottom=0)
            else:
                _log_y(axes, room=0.0)
        for axes in (memory, memory_share):
            axes.set_xlabel("bandwidth / 4C, of FC1 and FC2")
        legend(figure, handles, labels)
    return done


def _scaling(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The step's time against each size, both on logarithmic axes, with the fitted power."""
    axes_names = list(dict.fromkeys(name.split("_")[1] for name in found["slopes"]))
    with figure_of(6.6) as (figure, done):
        for axes, axis in zip(figure.subplots(2, 2).flat, axes_names, strict=True):
            for number, precision in enumerate(found["settings"]["precisions"]):
                name = f"scaling_{axis}_{precision}"
                rows, slopes = found["parts"][name]["rows"], found["slopes"][name]
                x = np.array([int(row["name"].partition("=")[2]) for row in rows])
                y = np.array([1e3 * row["median_s"] for row in rows])
                colour = PALETTE[number]
                # Through the means of the logarithms, as least squares does.
                fit = np.exp(np.log(y).mean() + slopes["step"] * (np.log(x) - np.log(x).mean()))
                axes.plot(x, fit, color=colour, linewidth=1.2, linestyle=_STYLES[precision])
                axes.plot(
                    x,
                    y,
                    color=colour,
                    marker=MARKERS[number],
                    linestyle="none",
                    label=f"{precision}: slope {slopes['step']:.2f} "
                    f"(arithmetic {slopes['arithmetic']:.2f})",
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, [str(size) for size in x])
            axes.xaxis.set_minor_locator(NullLocator())
            _log_y(axes, room=0.15)
            axes.set_xlabel(_WORDS[axis])
            axes.set_ylabel("time of a step, ms")
            axes.legend(loc="upper left", fontsize=9)
    return done


def _log_y(axes: Axes, room: float) -> None:
    """Logarithmic, in plain numbers, with a share of its height as room above for a legend."""
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** room)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _fraction(value: float, _: Any) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
