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


def number(value: object, form: str = ".4f") -> str:
    """A number in the given form, `-` for anything else."""
    return format(value, form) if isinstance(value, (int, float)) else "-"
