"""README.md as HTML, in two parts: what comes before the charts, and what comes after."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

# Pictures and links to them: the page has charts of its own.
_PICTURE = re.compile(r"^(!\[.*\]|\[[^\]]*\])\(charts/[^)]*\)$", re.MULTILINE)
# First cells that are short enough to stay on one line.
_NAME = re.compile(r"<tr>\n<td>(?=[^\n]{0,24}</td>)")
_HEADING = re.compile(r"<(h[2-4])>(.*?)</\1>")
_FIRST = "In short"


def readme_parts(markdown: str) -> tuple[str, str]:
    """Title, banners, description and "In short"; then all other sections."""
    cleaned = re.sub(r"<!--.*?-->", "", _PICTURE.sub("", markdown), flags=re.DOTALL)
    head, *sections = re.split(r"^(?=## )", cleaned, flags=re.MULTILINE)
    first = [s for s in sections if s.startswith(f"## {_FIRST}\n")]
    rest = [s for s in sections if s not in first]
    return _html(head + "".join(first)), _html("".join(rest))


def _html(markdown: str) -> str:
    # Raw HTML stays off: what a label or a note contains is text.
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    rendered = rendered.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    rendered = rendered.replace("</table>", "</table></div>")
    rendered = rendered.replace('style="text-align:right"', 'class="n"')
    rendered = _NAME.sub('<tr>\n<td class="w">', rendered)
    return _HEADING.sub(lambda m: f'<{m[1]} id="{_slug(m[2])}">{m[2]}</{m[1]}>', rendered)


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"<[^>]+>|&\w+;", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
