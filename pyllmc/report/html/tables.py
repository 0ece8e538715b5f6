"""HTML tables and text. Everything from outside goes through `text`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_SHORT = 24  # a name of so many characters stays on one line
_POWER = re.compile(r"\d[\d.]*e-\d+")
_NUMBER = re.compile(r"[-+−]?(\d.*|nan|inf)?")


def text(value: object) -> str:
    """Text in which no sign means anything to HTML, nor to Plotly, which reads tags in labels and
    takes what stands between two dollar signs for a formula."""
    return html.escape(str(value)).replace("$", "&#36;")


def unbroken(value: object) -> str:
    """Text whose numbers (1e-3) stay on one line."""
    return _POWER.sub(r'<span class="w">\g<0></span>', text(value))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where it is too wide; columns of numbers align right."""
    rows = [list(row) for row in rows]
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in header]
    right = [i > 0 and any(c) and all(map(_NUMBER.fullmatch, c)) for i, c in enumerate(columns)]
    kinds = [' class="n"' if numeric else "" for numeric in right]
    if columns and all(len(cell) <= _SHORT for cell in columns[0]):
        kinds[0] = ' class="w"'
    head = "".join(f"<th{kind}>{unbroken(c)}</th>" for kind, c in zip(kinds, header, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{unbroken(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns, name and value, without a header."""
    body = "".join(f"<tr><th>{text(k)}</th><td>{text(v)}</td></tr>" for k, v in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="facts"><tbody>{body}</tbody></table></div>'
    )
