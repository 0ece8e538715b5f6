"""What report.html holds, read without a browser."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pyllmc import _core
from pyllmc.cli import main
from pyllmc.cli.report import load_experiment
from pyllmc.cli.report_html import load_evidence
from pyllmc.experiments.matrix import load_matrix
from pyllmc.models.init import init_model
from pyllmc.report.html.blocks import BLOCKS, weight_map
from pyllmc.report.html.chart import Source
from pyllmc.report.html.charts import all_charts
from pyllmc.report.html.curves import spread, thinned
from pyllmc.report.html.page import script_json
from pyllmc.report.html.readme_parts import readme_parts
from pyllmc.report.outcomes import Outcomes

MATRIX = """
schema = 1
title = "Rates"
description = "For tests."
baseline = "dense"
seeds = [1, 2]
[data]
train = "data/t_train.bin"
val = "data/t_val.bin"
[model]
channels = 16
layers = 2
heads = 2
context = 32
vocab = 64
[train]
steps = 4
batch_size = 2
sequence_length = 16
learning_rate = [1e-3, 3e-3]
[[run]]
name = "dense"
label = "Dense"
[[run]]
name = "fc1_bw16"
label = "FC1-16"
fc1_bandwidth = 16
"""
ARMS = ["dense", "fc1_bw16", "fc2_bw16", "boom"]


def run(folder: Path) -> Result:
    return CliRunner().invoke(main, ["report", str(folder)])


class Page(HTMLParser):
    """The tags of a page, the text of its scripts, and what its images and links point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.outside: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")
        self.ids += [found["id"]] if found.get("id") else []
        for key in ("src", "href"):
            if key in found and not str(found[key]).startswith("#"):
                self.outside.append(str(found[key]))

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


@pytest.fixture(scope="module")
def text(seeded: Path) -> str:
    return (seeded / "report.html").read_text(encoding="utf-8")


def page_data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def data(text: str) -> dict[str, Any]:
    return page_data(text)


def test_page_is_one_file_that_loads_nothing(text: str) -> None:
    page = Page(text)
    assert page.outside == []
    assert "img" not in page.tags
    assert len(page.scripts) == 3  # data, plotly, our own: no name ended one of them
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))


def test_same_files_give_the_same_bytes(seeded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(seeded, folder, ignore=shutil.ignore_patterns("report.html", "charts"))
    assert run(folder).exit_code == 0
    assert (folder / "report.html").read_bytes() == (seeded / "report.html").read_bytes()


def test_every_chart_is_there_with_its_table(text: str, data: dict[str, Any]) -> None:
    keys = [chart["key"] for chart in data["charts"]]
    assert keys == ["loss", "difference", "density", "forest", "gap", "speed", "memory"]
    for key in keys:
        assert re.search(rf'<div class="plot" id="chart-{key}">.*?<table>', text, re.DOTALL)
    assert [len(maps) for maps in data["weights"]] == [4, 4, 4]


def test_curves_show_every_arm_and_at_most_2000_points(data: dict[str, Any]) -> None:
    loss = data["charts"][0]
    for view in ("validation", "training"):
        traces = [trace for trace in loss["traces"] if trace["meta"]["view"] == view]
        lines = [trace for trace in traces if not trace["meta"].get("band")]
        bands = [trace for trace in traces if trace["meta"].get("band")]
        assert [trace["meta"]["arm"] for trace in lines] == ARMS
        assert [trace["meta"]["arm"] for trace in bands] == ARMS
        assert all(1 < len(trace["x"]) <= 2000 for trace in lines)
        assert lines[-1]["y"][-1] is None  # the step at which it diverged


def test_forest_and_density_have_intervals_but_not_for_what_diverged(
    data: dict[str, Any],
) -> None:
    charts = {chart["key"]: chart for chart in data["charts"]}
    for key, axis, arms in (("forest", "error_x", ARMS[1:3]), ("density", "error_y", ARMS[:3])):
        points = [t for t in charts[key]["traces"] if not t["meta"].get("dots")]
        assert [point["meta"]["arm"] for point in points] == arms
        assert all(point[axis]["visible"] and point[axis]["array"][0] > 0 for point in points)


def test_every_run_tells_its_command_and_commit(text: str) -> None:
    records = text.split("<h2>Every run</h2>", 1)[1]
    assert records.count('<details class="run">') == 4
    for seed in (1, 2, 3):
        assert f"seed {seed}: train_banded --init-seed {seed}" in records
    assert records.count("c0ffee") == 4  # the same for all seeds: told once a run
    assert "-a &lt;/script&gt;\n+b" in records


def test_every_attempt_is_told(text: str) -> None:
    records = text.split("<h2>Every run</h2>", 1)[1]
    dense = records.split("</details>", 1)[0]
    rows = re.findall(r"<tr>(<td.*?)</tr>", dense.split("</tbody>", 1)[0])
    told = [re.findall(r">([^<>]+)</td>", row) for row in rows]
    first, second = told[:2]
    assert first[:4] == ["1", "1", "preempted", "700"]
    assert second[:4] == ["1", "2", "done", "3000"]
    assert told[0][-1] == "runner killed"
    assert len(told) == 6


def test_checkpoint_that_cannot_be_read_is_named(text: str) -> None:
    assert re.search(r"Diverges, seed 2: no picture, ckpt_boom_s2.bin has 16 bytes", text)


def test_without_plotly_the_readme_is_written_and_the_way_told(
    seeded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(seeded, folder, ignore=shutil.ignore_patterns("report.html", "README.md"))
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = run(folder)
    assert result.exit_code == 0
    assert (folder / "README.md").is_file()
    assert not (folder / "report.html").exists()
    assert "report.html was not written: plotly" in result.stderr
    assert "pip install 'pyllmc[report]'" in result.stderr


def test_thinned_curve_keeps_ends_and_spikes() -> None:
    low = np.zeros(100_000)
    high = np.ones(100_000)
    low[40_001], high[70_007] = -5, 9
    kept = thinned(low, high, 2000)
    assert len(kept) <= 2000
    assert {0, 40_001, 70_007, 99_999} <= set(kept.tolist())
    assert thinned(low[:2000], high[:2000], 2000).tolist() == list(range(2000))


def test_spread_is_mean_and_range_where_seeds_have_a_step() -> None:
    found = spread([{0: 1.0, 10: 4.0}, {0: 3.0}, {}])
    assert found.steps.tolist() == [0, 10]
    assert found.mean.tolist() == [2.0, 4.0]
    assert (found.low.tolist(), found.high.tolist()) == ([1.0, 4.0], [3.0, 4.0])
    assert found.seeds == 2


def test_weight_map_is_empty_only_where_every_weight_is_0() -> None:
    weight = np.zeros((130, 70), np.float32)
    weight[0, 0], weight[129, 69] = -1e-6, 2.0
    found = weight_map("fc1", 0, weight)
    assert found.levels.shape == (BLOCKS, BLOCKS)
    assert found.levels[0, 0] == 1
    assert found.levels[-1, -1] == 255
    assert np.count_nonzero(found.levels) == 2
    assert found.nonzero == 2 / weight.size
    assert found.top == pytest.approx(2.0 / (3 * 2))  # the last block is 3 rows by 2 columns


def test_weight_map_of_a_small_weight_shows_every_entry() -> None:
    found = weight_map("fc2", 1, np.array([[1.0, -0.5], [np.nan, 0.0]]))
    assert found.levels.tolist() == [[255, 128], [0, 0]]


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"</script>": ["<!--", "ü"]}
    written = script_json(value)
    assert "<" not in written
    assert json.loads(written) == value


def test_readme_keeps_its_words_and_loses_its_pictures() -> None:
    first, rest = readme_parts(
        "<!-- x -->\n\n# A\n\n> **Stop** (see [What](#what-happened))\n\n## In short\n\n* b\n\n"
        "## Results\n\n![c](charts/c.png)\n\n[The same as SVG](charts/c.svg)\n\n"
        "| R | N |\n| - | -: |\n| <i> | 1 |\n\n## What happened\n\nAll.\n"
    )
    assert "<strong>Stop</strong>" in first
    assert "<li>b</li>" in first
    assert "charts/" not in rest
    assert "SVG" not in rest
    assert '<h2 id="what-happened">' in rest
    assert '<td class="w">&lt;i&gt;</td>\n<td class="n">1</td>' in rest


def test_learning_rates_share_a_colour_and_have_a_chart(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(MATRIX)
    matrix = load_matrix(tmp_path)
    (tmp_path / "logs").mkdir()
    for number, cell in enumerate(matrix.cells()):
        lines = [f"s:{step} tel:{3 - step / 10 + number / 100:.4f}" for step in (0, 2, 4)]
        matrix.log_path(cell.run, cell.seed).write_text("\n".join(lines) + "\n")
    experiment = load_experiment(matrix)
    source = Source(Outcomes(experiment), ())
    dense, faster = source.looks["dense_lr1e-3"], source.looks["dense_lr3e-3"]
    assert dense["colour"] == faster["colour"] == -1
    assert dense["dash"] != faster["dash"]
    banded = {source.looks[f"fc1_bw16_lr{rate}"]["colour"] for rate in ("1e-3", "3e-3")}
    assert banded == {0}
    keys = [chart.key for chart in all_charts(source)]
    assert keys[0] == "loss"
    assert keys.count("rates") == 1
    rates = next(chart for chart in all_charts(source) if chart.key == "rates")
    points = [trace["x"] for trace in rates.traces if trace["mode"] == "markers"]
    assert points == [[0.001], [0.003]] * 2


def squares(chart: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Difference and half its interval of every square of a chart, by the row it stands in."""
    return {
        trace["y"][0]: (trace["x"][0], trace["error_x"]["array"][0])
        for trace in chart["traces"]
        if trace["marker"].get("symbol") == "square"
    }


DIFFERENCE = re.compile(r"([-+−][\d.]+) ± ([\d.]+)")


def told(readme: str, heading: str, row: str) -> tuple[float, float]:
    """The last difference and its ± in the README's row of a section."""
    section = readme.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if row in line and DIFFERENCE.search(line)]
    found = DIFFERENCE.findall(lines[0])[-1]
    return float(found[0].replace("−", "-")), float(found[1])


def test_tuning_and_controls_are_charts_with_the_readmes_numbers(tuned: Path) -> None:
    text, readme = ((tuned / name).read_text() for name in ("report.html", "README.md"))
    charts = {chart["key"]: chart for chart in page_data(text)["charts"]}
    drawn = squares(charts["tuned"])
    assert list(drawn) == ["Band", "Random places", "Renamed"]
    for label, shown in drawn.items():
        expected = told(readme, "## Learning rate", f"| {label} ")
        assert shown == (pytest.approx(expected[0], abs=1e-4), pytest.approx(expected[1], abs=1e-4))
    # At equal rates the band is better at the lower two; tuned it is not.
    circles = [
        trace["x"][0]
        for trace in charts["tuned"]["traces"]
        if trace["marker"].get("symbol") == "circle-open" and trace["y"] == ["Band"]
    ]
    assert [x < 0 for x in circles] == [True, True, False]
    assert drawn["Band"][0] - drawn["Band"][1] > 0
    drawn = squares(charts["controls"])
    assert list(drawn) == ["random places", "A/A: renamed"]
    for label, row in (("random places", "Random places"), ("A/A: renamed", "Renamed")):
        expected = told(readme, "## Controls", row)
        assert drawn[label] == (
            pytest.approx(expected[0], abs=1e-4), pytest.approx(expected[1], abs=1e-4)
        )  # fmt: skip
    for key in ("tuned", "controls"):
        assert re.search(rf'<div class="plot" id="chart-{key}">.*?<table>', text, re.DOTALL)


def test_low_rank_weights_are_shown_as_their_product(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(MATRIX)
    matrix = load_matrix(tmp_path)
    cell = next(matrix.cells())
    path = matrix.checkpoint_path(cell.run, cell.seed)
    path.parent.mkdir()
    init_model(path, 16, 2, 2, 32, 64, hidden=48, mlp_rank=4)
    (weights,) = load_evidence(matrix, load_experiment(matrix)).weights
    assert [(m.name, m.layer, m.rows, m.cols) for m in weights.maps] == [
        ("fc1", 0, 48, 16), ("fc2", 0, 16, 48), ("fc1", 1, 48, 16), ("fc2", 1, 16, 48)
    ]  # fmt: skip
    _, tensors = _core.read_model(str(path))
    product = np.abs(tensors["fcw"][1] @ tensors["fcinw"][1])
    assert weights.maps[2].top == pytest.approx(product.max(), rel=1e-6)
