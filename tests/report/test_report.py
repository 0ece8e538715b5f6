"""`pyllmc report` as a whole: golden file, repeatability, conclusions that follow the logs."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import pyllmc
import pyllmc.report
from pyllmc import _core

Report = Callable[..., str]
Row = Callable[[str, str, str], list[str]]
ONE_SEED = "One seed: differences carry no error bars and none is called an effect here."


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def drop_jsonl(folder: Path) -> None:
    for path in (folder / "logs").glob("*.jsonl"):
        path.unlink()


def swap(folder: Path, one: str, other: str, suffix: str) -> None:
    a, b = (folder / "logs" / f"log_{name}{suffix}" for name in (one, other))
    text = a.read_text()
    a.write_text(b.read_text())
    b.write_text(text)


def test_golden(drawn: Path, golden: Path) -> None:
    """After a wanted change: `pyllmc report tests/report/golden`, and read the difference."""
    expected = (golden / "README.md").read_text(encoding="utf-8")
    expected = re.sub(r"(Report by pyllmc) [^;]+;", rf"\1 {pyllmc.__version__};", expected)
    assert (drawn / "README.md").read_text(encoding="utf-8") == expected


def test_every_image_and_link_is_there(drawn: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (drawn / "README.md").read_text(encoding="utf-8"))
    assert len(links) == 8
    assert all((drawn / link).is_file() for link in links)
    assert {Path(link).suffix for link in links} == {".png", ".svg"}


def test_another_report_is_the_same_to_the_byte(
    experiment: Path, drawn: Path, draw: Report
) -> None:
    for path in (experiment / "logs").iterdir():
        os.utime(path, (0, 0))
    draw(experiment)
    assert snapshot(experiment) == snapshot(drawn)
    assert len(snapshot(drawn).keys() - {"report.html"}) == 2 + 20 + 1 + 8 + 1
    (experiment / "charts" / "density.png").write_bytes(b"spoiled")
    draw(experiment)
    assert snapshot(experiment) == snapshot(drawn)


def test_swapped_logs_swap_the_conclusions(experiment: Path, report: Report, row: Row) -> None:
    drop_jsonl(experiment)
    before = report(experiment)
    assert "FC2 ends lower than FC1 at every bandwidth tried" in before
    assert row(before, "Summary", "FC1-32")[4] == "+4.00 %"
    assert row(before, "Analysis", "FC1")[1:3] == ["FC1-64", "75.8 %"]
    for bandwidth in (64, 32):
        swap(experiment, f"fc1_bw{bandwidth}", f"fc2_bw{bandwidth}", ".txt")
    after = report(experiment)
    assert "FC1 ends lower than FC2 at every bandwidth tried" in after
    assert "FC2 ends lower" not in after
    assert row(after, "Summary", "FC2-32")[4] == "+4.00 %"
    assert row(after, "Analysis", "FC1")[1:3] == ["FC1-32", "44.9 %"]
    assert row(after, "Analysis", "FC2")[1:3] == ["FC2-64", "75.8 %"]


def test_swapped_logs_are_caught_by_what_they_say_of_themselves(
    experiment: Path, report: Report, row: Row
) -> None:
    for suffix in (".txt", ".jsonl"):
        swap(experiment, "fc1_bw32", "fc2_bw32", suffix)
    text = report(experiment)
    assert (
        "**Left out, because their logs are not those of the runs asked for: FC1-32 and FC2-32.**"
        in text
    )
    state, why = row(text, "What happened", "FC1-32")
    assert state == "does not match the matrix"
    assert why == "logs/log_fc1_bw32.txt was made with fc1_bandwidth 0, the matrix says 32"
    assert row(text, "Summary", "FC1-32")[2:5] == ["-", "-", "-"]


def test_mixed_conclusions_name_each_bandwidth(experiment: Path, report: Report) -> None:
    drop_jsonl(experiment)
    swap(experiment, "fc1_bw64", "fc2_bw64", ".txt")
    assert (
        "FC1 ends lower than FC2 at bandwidth 64 (by 0.0227 nats); "
        "FC2 ends lower than FC1 at bandwidth 32 (by 0.0661 nats)."
    ) in report(experiment)


def test_one_seed_is_said_on_top(experiment: Path, report: Report) -> None:
    text = report(experiment)
    assert ONE_SEED in text.split("\n## ")[0]
    assert "±" not in text.split("## Expectations")[0]


def test_shape_comes_from_the_initial_weights(experiment: Path, report: Report, row: Row) -> None:
    _core.init_checkpoint(
        str(experiment / "model.bin"), channels=16, layers=3, heads=2, context=48, vocab=100
    )
    text = report(experiment)
    assert "Read from `model.bin`." in text
    c, (layers, heads, v, vp, length, parameters) = 16, row(text, "Overview", "16")
    assert (layers, heads, v, vp, length) == ("3", "2", "100", "128", "48")
    _, tensors = _core.read_checkpoint(str(experiment / "model.bin"))
    assert tensors["wte"].shape == (128, c)
    assert parameters == f"{sum(tensor.size for tensor in tensors.values()):,}"


def test_densities_are_the_bands_own(experiment: Path, report: Report, row: Row) -> None:
    drop_jsonl(experiment)
    toml = experiment / "matrix.toml"
    toml.write_text(toml.read_text().replace("channels = 16", "channels = 128"))
    text = report(experiment).replace("### Model", "## Model").replace("### Dens", "## Dens")
    assert row(text, "Densities", "128")[1:3] == ["15,472 of 65,536", "23.6 %"]
    assert row(text, "Densities", "64")[1:3] == ["8,056 of 65,536", "12.3 %"]


def test_work_saved_is_that_of_the_whole_model(experiment: Path, report: Report, row: Row) -> None:
    # By hand for C = 16, L = 2, T = 32, V = 100: 2 (12 C² + 33 C) + 100 C = 8800 a token, and a
    # band of 64 leaves out 248 weights a matrix and layer.
    one, both = row(report(experiment), "Overview", "64")[3:5]
    assert one == f"{100 * (1 - 2 * 248 / 8800):.1f} %"
    assert both == f"{100 * (1 - 4 * 248 / 8800):.1f} %"


def test_settings_that_differ_are_flagged(experiment: Path, report: Report, row: Row) -> None:
    path = experiment / "logs" / "log_fc1_bw32.jsonl"
    path.write_text(path.read_text().replace('"learning_rate":0.0003', '"learning_rate":0.001'))
    text = report(experiment)
    assert row(text, "Overview", "learning_rate: DIFFERS") == [
        "0.0003 (Baseline, FC1-128, FC1-64, FC2-128, FC2-64, FC2-32, FC1+FC2-128, FC1+FC2-64 and "
        "FC1+FC2-32); 0.001 (FC1-32)"
    ]
    assert "* learning_rate: 0.001 in the runs, 0.0003 in the matrix file (FC1-32)" in text


def test_settings_of_the_runs_count_not_those_of_the_file(
    experiment: Path, report: Report, row: Row
) -> None:
    toml = experiment / "matrix.toml"
    toml.write_text(toml.read_text().replace("steps = 40", "steps = 5000"))
    text = report(experiment)
    assert row(text, "Overview", "steps") == ["40"]
    assert "* steps: 40 in the runs, 5000 in the matrix file (all runs)" in text
    assert "All 10 runs finished." in text


def test_validation_tokens_are_told(experiment: Path, report: Report) -> None:
    assert "means over the first 640 validation tokens" in report(experiment)
    drop_jsonl(experiment)
    assert "at most the first 640 validation tokens" in report(experiment)


def test_a_test_loss_gets_a_column(experiment: Path, report: Report, row: Row) -> None:
    assert "Test loss" not in report(experiment)
    with (experiment / "logs" / "log_fc1_bw32.txt").open("a") as log:
        log.write("s:40 tsl:2.2222\n")
    text = report(experiment)
    assert row(text, "Summary", "FC1-32")[5] == "2.2222"
    assert row(text, "Summary", "Baseline")[5] == "-"


def test_a_long_table_is_thinned_and_keeps_both_ends(experiment: Path, report: Report) -> None:
    drop_jsonl(experiment)
    for path in (experiment / "logs").glob("*.txt"):
        path.write_text("".join(f"s:{step} tel:{3 - step / 100:.4f}\n" for step in range(41)))
    text = report(experiment)
    section = text.split("### Bandwidth 64\n")[1].split("\n### ")[0]
    steps = [int(m) for m in re.findall(r"^\| (\d+) ", section, re.MULTILINE)]
    assert len(steps) == 21
    assert (steps[0], steps[-1]) == (0, 40)
    assert "21 of 41 validations" in section


def test_a_control_on_other_data_has_its_own_baseline(
    experiment: Path, draw: Report, row: Row
) -> None:
    drop_jsonl(experiment)
    random_data = '[run.data]\ntrain = "r_train.bin"\nval = "r_val.bin"\n'
    with (experiment / "matrix.toml").open("a") as toml:
        toml.write(
            f'\n[[run]]\nname = "random_dense"\nlabel = "Random, dense"\n{random_data}'
            f'\n[[run]]\nname = "random_32"\nlabel = "Random, FC1-32"\nfc1_bandwidth = 32\n'
            f'baseline = "random_dense"\n{random_data}'
        )
    (experiment / "logs" / "log_random_dense.txt").write_text("s:0 tel:4.7\ns:40 tel:4.6000\n")
    (experiment / "logs" / "log_random_32.txt").write_text("s:0 tel:4.7\ns:40 tel:4.6460\n")
    text = draw(experiment)
    control = text.split("## Summary\n")[1].split("### Against Random, dense\n")[1]
    assert row("## x\n" + control, "x", "Random, FC1-32")[2:5] == ["4.6460", "+0.0460", "+1.00 %"]
    assert "Random" not in text.split("## In short")[1].split("## Overview")[0]
    assert (experiment / "charts" / "random_dense_loss.png").is_file()
    assert (experiment / "charts" / "random_dense_density.svg").is_file()


def test_out_and_logs_and_set(
    experiment: Path, tmp_path: Path, draw: Report, run_report: Callable[..., Result]
) -> None:
    out = tmp_path / "elsewhere"
    shutil.move(experiment / "logs", out / "logs")
    assert run_report(experiment).exit_code == 4
    text = draw(experiment, "--out", out)
    assert (out / "charts" / "density.png").is_file()
    assert not (experiment / "README.md").exists()
    shutil.move(out / "logs", tmp_path / "moved")
    assert draw(experiment, "--logs", tmp_path / "moved").replace("moved/", "logs/") == text
    assert run_report(experiment, "--logs", tmp_path / "moved", "--set", "seeds=[1]").exit_code == 4


def test_no_losses_at_all_exits_4_and_writes_nothing(
    experiment: Path, run_report: Callable[..., Result]
) -> None:
    shutil.rmtree(experiment / "logs")
    result = run_report(experiment)
    assert result.exit_code == 4
    assert "has no losses" in result.stderr
    assert "pyllmc matrix run" in result.stderr
    assert not (experiment / "README.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "expected the columns"), ("step,run,value\nx,baseline,2\n", "line 2")],
)
def test_a_bad_reference_exits_4(
    experiment: Path, run_report: Callable[..., Result], text: str, message: str
) -> None:
    (experiment / "reference.csv").write_text(text)
    result = run_report(experiment)
    assert result.exit_code == 4
    assert message in result.stderr


def test_the_report_reads_tables_never_logs() -> None:
    imported = set()
    for path in Path(pyllmc.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    ours = {name for name in imported if name.startswith("pyllmc")}
    ours -= {"pyllmc.files", "pyllmc.models.shape"}  # the latter is arithmetic alone
    assert all(name.startswith("pyllmc.report") for name in ours)
