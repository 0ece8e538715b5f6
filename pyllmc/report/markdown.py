"""Markdown tables and numbers as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from pyllmc.report.comparisons import Comparison
from pyllmc.report.outcomes import Difference, Sample

_NUMBER = re.compile(r"[-+]?(\d.*|nan|inf)?")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub table, padded so that it reads in a terminal too; columns of numbers align right."""
    columns = list(zip(*([escape(cell) for cell in row] for row in (header, *rows)), strict=True))
    padded = []
    for i, (title, *cells) in enumerate(columns):
        width = max(3, len(title), *map(len, cells))
        if i > 0 and any(cells) and all(_NUMBER.fullmatch(cell) for cell in cells):
            rule = "-" * (width - 1) + ":"
            padded.append([cell.rjust(width) for cell in (title, rule, *cells)])
        else:
            padded.append([cell.ljust(width) for cell in (title, "-" * width, *cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in zip(*padded, strict=True))


def escape(text: str) -> str:
    """Text for a table cell: no bar, line end or tag of it means anything."""
    text = " ".join(text.split())
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(sign, written)
    return text


def bullets(items: Iterable[str]) -> str:
    """A list, one line an item."""
    return "\n".join(f"* {item}" for item in items)


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def loss(value: float) -> str:
    """A loss in nats; nan and inf as such."""
    return f"{value:.4f}" if math.isfinite(value) else str(value)


def signed(value: float, decimals: int = 4) -> str:
    """A difference with its sign; exactly 0 is written as 0."""
    return "0" if value == 0 else f"{value:+.{decimals}f}"


def percent(share: float) -> str:
    """A share of 0 to 1; 100 % only when it is all."""
    text = f"{100 * share:.1f} %"
    return "99.99 %" if text == "100.0 %" and share < 1 else text


def mean_sd(sample: Sample | None, seeds: int) -> str:
    """ "2.3852", or "2.3852 ± 0.0010 (n=3)" for several seeds; "-" for none."""
    if sample is None:
        return "-"
    if seeds < 2:
        return loss(sample.mean)
    spread = "" if sample.sd is None else f" ± {sample.sd:.4f}"
    return f"{loss(sample.mean)}{spread} (n={sample.n})"


def interval(sample: Sample | None) -> str:
    """ "2.3840 to 2.3864", the t-based 95 % interval of the mean; "-" for fewer than two values."""
    if sample is None or sample.half_width is None:
        return "-"
    return f"{sample.mean - sample.half_width:.4f} to {sample.mean + sample.half_width:.4f}"


def nats(value: float | None, half_width: float | None = None) -> str:
    """ "+0.0255", or "+0.0255 ± 0.0031" with an interval; "-" for none."""
    if value is None:
        return "-"
    return signed(value) + ("" if half_width is None else f" ± {half_width:.4f}")


def difference(value: Difference | None, compared: Comparison | None = None) -> tuple[str, str]:
    """A difference in nats and in percent; "-" twice for none. A comparison's estimate and interval
    take the place of the plain mean."""
    if compared is not None and compared.nats is not None and value is not None:
        percent = 100 * compared.nats / value.base.mean
        return nats(compared.nats, compared.half_width), f"{signed(percent, 2)} %"
    if value is None:
        return "-", "-"
    return nats(value.nats.mean), f"{signed(value.percent, 2)} %"
