"""Plain aligned columns for stdout."""

from __future__ import annotations

from collections.abc import Container, Sequence


def text_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Container[str] = ()
) -> str:
    """Rows of texts under their headers; the columns named in `right` are aligned right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = []
    for row in (headers, *rows):
        cells = [
            text.rjust(width) if header in right else text.ljust(width)
            for header, text, width in zip(headers, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def clock(seconds: float | None) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on; `-` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: object, form: str = ".4f") -> str:
    """A number in the given form, `-` for anything else."""
    return format(value, form) if isinstance(value, (int, float)) else "-"
