"""report.html on disk."""

from __future__ import annotations

from pathlib import Path

from pyllmc.files import atomic_write
from pyllmc.report.html.inputs import Evidence
from pyllmc.report.html.page import page
from pyllmc.report.inputs import Experiment
from pyllmc.report.outcomes import Outcomes

FILE_NAME = "report.html"


def write_html(experiment: Experiment, evidence: Evidence, readme: Path) -> Path:
    """Writes report.html beside `readme`, whose text it repeats; returns its path.

    The same experiment gives the same bytes. Raises ImportError where plotly or markdown-it-py is
    not installed, WriteError.
    """
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped,unused-ignore]

    text = page(Outcomes(experiment), evidence, readme.read_text(encoding="utf-8"), get_plotlyjs())
    path = readme.with_name(FILE_NAME)
    atomic_write(path, text)
    return path
