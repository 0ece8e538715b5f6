"""Charts: readable files, free of dates and versions, whatever the runs are called."""

from __future__ import annotations

import re
import struct
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from pyllmc.report.markdown import escape

Report = Callable[..., str]
Row = Callable[[str, str, str], list[str]]


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + size]
        at += 12 + size
    return chunks


def test_files_hold_pictures_and_no_dates(drawn: Path) -> None:
    names = {path.name for path in (drawn / "charts").iterdir()}
    keys = ("density", "loss_bw128", "loss_bw64", "loss_bw32")
    assert names == {f"{key}.{suffix}" for key in keys for suffix in ("png", "svg")}
    for path in (drawn / "charts").iterdir():
        if path.suffix == ".png":
            chunks = png_chunks(path.read_bytes())
            width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
            assert width == 1600
            assert 600 <= height <= 1000
            assert not {b"tEXt", b"iTXt", b"tIME"} & chunks.keys()
            assert len(chunks[b"IDAT"]) > 5000
        else:
            text = path.read_text(encoding="utf-8")
            assert ElementTree.fromstring(text).tag.endswith("svg")
            assert "<dc:date>" not in text
            assert "Matplotlib" not in text


def test_a_changed_loss_changes_its_charts_and_no_other(
    experiment: Path, drawn: Path, draw: Report
) -> None:
    log = experiment / "logs" / "log_fc1_bw32.txt"
    log.write_text(log.read_text().replace("s:40 tel:2.1118", "s:40 tel:2.1500"))
    draw(experiment)
    before, after = (
        {path.name: path.read_bytes() for path in (folder / "charts").iterdir()}
        for folder in (drawn, experiment)
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{n}.{s}" for n in ("density", "loss_bw32") for s in ("png", "svg")}


ODD = ["_hidden", "$x^2$", "$ unclosed", "a | b", "<b>bold</b>", "größer ²", "帯行列 🎉", "x" * 60,
       "\\frac", "`code` & more"]  # fmt: skip


def test_odd_labels(experiment: Path, draw: Report) -> None:
    toml = experiment / "matrix.toml"
    text = toml.read_text()
    for label, name in zip(ODD, re.findall('label = "(.+)"', text), strict=True):
        text = text.replace(f'label = "{name}"', f"label = '{label}'")
    toml.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = draw(experiment)
    summary = text.split("## Summary\n")[1].split("\n## ")[0]
    for label in ODD:
        (line,) = [x for x in summary.splitlines() if x.startswith(f"| {escape(label)} ")]
        assert line.replace("\\|", "").count("|") == 8


def test_equal_labels_are_told_apart(experiment: Path, report: Report) -> None:
    toml = experiment / "matrix.toml"
    toml.write_text(toml.read_text().replace('label = "FC1-32"', 'label = "FC2-32"'))
    assert "FC2-32 (fc1_bw32)" in report(experiment)


def test_a_diverged_run_does_not_spoil_the_chart(experiment: Path, draw: Report, row: Row) -> None:
    log = experiment / "logs" / "log_fc1_bw32.txt"
    lines = ["s:40 tel:nan" if x.startswith("s:40") else x for x in log.read_text().splitlines()]
    log.write_text("\n".join(lines) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = draw(experiment)
    assert row(text.replace("### Bandwidth 32", "## 32"), "32", "40")[1:3] == ["nan", "2.0457"]
