"""Runs that went wrong, repeats that should not differ, seeds, expectations, published numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats

from pyllmc.report.inference import critical_value
from pyllmc.report.outcomes import Sample

Report = Callable[..., str]
Row = Callable[[str, str, str], list[str]]


def log(folder: Path, name: str, suffix: str = ".txt") -> Path:
    return folder / "logs" / f"log_{name}{suffix}"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def cut(folder: Path, name: str, step: int) -> None:
    """Ends a run's logs after the validation at `step`."""
    for suffix, mark in ((".txt", f"s:{step} tel:"), (".jsonl", f'"val","step":{step},')):
        lines = log(folder, name, suffix).read_text().splitlines(keepends=True)
        last = next(i for i, line in enumerate(lines) if mark in line)
        log(folder, name, suffix).write_text("".join(lines[: last + 1]))


# What can have become of FC1-32: how, its state, words of the reason, its note in the summary.
def remove(folder: Path) -> None:
    log(folder, "fc1_bw32").unlink()
    log(folder, "fc1_bw32", ".jsonl").unlink()


def empty(folder: Path) -> None:
    log(folder, "fc1_bw32").write_text("")
    log(folder, "fc1_bw32", ".jsonl").unlink()


def kill(folder: Path) -> None:
    cut(folder, "fc1_bw32", 20)


def kill_without_jsonl(folder: Path) -> None:
    cut(folder, "fc1_bw32", 20)
    log(folder, "fc1_bw32", ".jsonl").unlink()


def interrupt(folder: Path) -> None:
    cut(folder, "fc1_bw32", 20)
    with log(folder, "fc1_bw32", ".jsonl").open("a") as lines:
        lines.write('{"type":"end","step":20,"status":"interrupted"}\n')


def train_nan(folder: Path) -> None:
    cut(folder, "fc1_bw32", 20)
    with log(folder, "fc1_bw32").open("a") as lines:
        lines.write("s:21 trl:nan\n")


def val_inf(folder: Path) -> None:
    lines = log(folder, "fc1_bw32").read_text().splitlines()
    lines = ["s:30 tel:inf" if line.startswith("s:30 tel") else line for line in lines]
    log(folder, "fc1_bw32").write_text("\n".join(lines) + "\n")


def diverge_before_the_update(folder: Path) -> None:
    cut(folder, "fc1_bw32", 20)
    with log(folder, "fc1_bw32", ".jsonl").open("a") as lines:
        lines.write('{"type":"end","step":20,"status":"diverged"}\n')


@pytest.mark.parametrize(
    ("spoil", "state", "why", "note"),
    [
        (remove, "missing", "no losses in logs/log_fc1_bw32.txt", "missing"),
        (empty, "missing", "no losses in logs/log_fc1_bw32.txt", "missing"),
        (kill, "unfinished", "the log ends at step 20 of 40", "unfinished (2.3229 at step 20)"),
        (kill_without_jsonl, "unfinished", "step 20 of 40", "unfinished (2.3229 at step 20)"),
        (interrupt, "unfinished", "recorded as interrupted", "unfinished (2.3229 at step 20)"),
        (train_nan, "diverged", "the loss is not finite at step 21", "diverged"),
        (val_inf, "diverged", "the loss is not finite at step 30", "diverged"),
        (diverge_before_the_update, "diverged", "stopped at step 20", "diverged"),
    ],
)
def test_a_run_that_is_no_result(
    experiment: Path, report: Report, row: Row, spoil: Callable[[Path], None], state: str, why: str,
    note: str,
) -> None:  # fmt: skip
    spoil(experiment)
    text = report(experiment)
    found = row(text, "What happened", "FC1-32")
    assert found[0] == state
    assert why in found[1]
    assert row(text, "Summary", "FC1-32")[2:] == ["-", "-", "-", note]
    assert "1 of 10 runs did not finish: FC1-32" in text.split("\n## ")[0]
    # Left out of what is compared, and nothing else is.
    assert "FC2 ends lower than FC1 at bandwidth 64 (by 0.0227 nats)." in text
    assert "FC1+FC2-32 is" not in text
    assert "cannot be judged: no comparable FC1-32" in text
    assert row(text, "Summary", "FC2-32")[4] == "+0.74 %"


def test_without_the_baseline_nothing_is_compared(
    experiment: Path, report: Report, row: Row
) -> None:
    cut(experiment, "baseline", 20)
    text = report(experiment)
    assert "Baseline did not finish, so nothing can be compared with it." in text
    assert row(text, "Summary", "FC1-32")[2:5] == ["2.1118", "-", "-"]
    assert "### Sweet spot" not in text


def test_a_run_that_ended_at_another_step_is_not_compared(
    experiment: Path, report: Report, row: Row
) -> None:
    for path in (log(experiment, "fc1_bw32"), log(experiment, "fc1_bw32", ".jsonl")):
        edit(path, 's:40' if path.suffix == ".txt" else '"step":40', 's:50' if path.suffix == ".txt" else '"step":50')  # fmt: skip  # noqa: E501
    text = report(experiment)
    cells = row(text, "Summary", "FC1-32")
    assert cells[2:] == ["2.1118", "-", "-", "ended at step 50"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"state": "failed", "message": "the disk is full"},
            "recorded as failed: the disk is full",
        ),
        ({"state": "done", "log_sha256": "0" * 64}, "was written to after its run had ended"),
        ({"state": "queued"}, "recorded as queued"),
    ],
)
def test_what_the_runner_recorded_counts(
    experiment: Path, report: Report, row: Row, record: dict[str, str], expected: str
) -> None:
    folder = experiment / "cells" / "fc1_bw32"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(record))
    text = report(experiment)
    assert expected in row(text, "What happened", "FC1-32")[1]
    assert row(text, "Summary", "FC1-32")[2] == "-"


WRONG = "**Something is wrong: FC2-128 should repeat the baseline bit for bit and does not.**"


def test_a_repeat_that_differs_in_its_log_is_loud(experiment: Path, report: Report) -> None:
    edit(log(experiment, "fc2_bw128"), "s:35 trl:2.0", "s:35 trl:2.1")
    text = report(experiment)
    assert WRONG in text.split("\n## ")[0]
    assert "FC2-128: **NOT identical to Baseline: training loss at step 35 is 2.1" in text
    assert "**Something is wrong.** A dense run was made twice" in text
    assert "FC1-128 and FC1+FC2-128 keep every weight: identical to Baseline" in text


def test_a_repeat_that_differs_only_in_full_precision_is_loud(
    experiment: Path, report: Report
) -> None:
    path = log(experiment, "fc2_bw128", ".jsonl")
    lines = path.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    at = next(i for i, r in enumerate(records) if r["type"] == "val" and r["step"] == 30)
    records[at]["loss"] = math.nextafter(records[at]["loss"], 9)
    path.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    text = report(experiment)
    assert WRONG in text
    assert "validation loss at step 30" in text


def test_a_repeat_that_lacks_a_validation_is_loud(experiment: Path, report: Report) -> None:
    path = log(experiment, "fc2_bw128")
    path.write_text("".join(x for x in path.read_text().splitlines(True) if "s:20 tel" not in x))
    text = report(experiment)
    assert WRONG in text
    assert "one has 4 validation losses, the other 5" in text


def test_repeats_without_jsonl_say_so(experiment: Path, report: Report) -> None:
    log(experiment, "fc2_bw128", ".jsonl").unlink()
    text = report(experiment)
    assert "FC2-128: identical to Baseline in all 13 logged losses (no .jsonl of both" in text
    assert "FC1-128: identical to Baseline in all 13 logged losses and all 13 in full" in text


def test_a_dense_run_with_another_rate_is_no_repeat(experiment: Path, report: Report) -> None:
    edit(
        experiment / "matrix.toml", 'name = "fc2_bw128"', 'name = "fc2_bw128"\nlearning_rate = 0.1'
    )
    edit(log(experiment, "fc2_bw128"), "s:35 trl:2.0", "s:35 trl:2.1")
    text = report(experiment)
    assert "Something is wrong" not in text
    assert "* FC2-128:" not in text


def with_seeds(folder: Path, seeds: list[int]) -> None:
    """The same experiment for several seeds: seed s adds 0.01 s to every loss, and 0.001 s² more
    to those of FC1-32."""
    edit(folder / "matrix.toml", 'baseline = "baseline"', f'baseline = "baseline"\nseeds = {seeds}')
    for path in list((folder / "logs").iterdir()):
        if path.suffix == ".txt":
            lines = [line.rsplit(":", 1) for line in path.read_text().splitlines()]
            extra = 0.001 if path.stem == "log_fc1_bw32" else 0.0
            for s in seeds:
                text = "".join(f"{k}:{float(v) + 0.01 * s + extra * s * s:.4f}\n" for k, v in lines)
                path.with_name(f"{path.stem}_s{s}.txt").write_text(text)
        path.unlink()


def test_several_seeds_give_mean_sd_and_paired_intervals(
    experiment: Path, report: Report, row: Row
) -> None:
    seeds = [1, 2, 4]
    with_seeds(experiment, seeds)
    text = report(experiment)
    assert "One seed" not in text
    finals = [2.1118 + 0.01 * s + 0.001 * s * s for s in seeds]
    cells = row(text, "Summary", "FC1-32")
    assert cells[2] == f"{fmean(finals):.4f} ± {stdev(finals):.4f} (n=3)"
    half = stats.t.ppf(0.975, 2) * stdev(finals) / math.sqrt(3)
    assert cells[3] == f"{fmean(finals) - half:.4f} to {fmean(finals) + half:.4f}"
    # The only residuals are FC1-32's, which the model spreads over all seven runs. What is left of
    # the differences between seeds cancels in the others.
    gaps = [0.0812 + 0.001 * s * s for s in seeds]
    own = stats.t.ppf(1 - 0.05 / 12, 2) * stdev(gaps) / math.sqrt(3)
    assert cells[4] == f"+{fmean(gaps):.4f} ± {own:.4f}"
    assert cells[6] == "shown worse"
    assert "FC1-32: that run's losses, or those it is compared with, vary more" in text
    estimate, _, half_width = row(text, "Summary", "FC2-32")[4].split()
    residual = stdev(gaps) * math.sqrt(2 * (6 / 7) / 12)
    critical = critical_value(np.full((6, 6), 0.5) + np.eye(6) / 2, 12, 0.95)
    assert estimate == "+0.0151"
    assert float(half_width) == pytest.approx(critical * residual * math.sqrt(2 / 3), abs=6e-5)
    assert row(text, "Overview", "seeds (initial weights and data order)") == ["1, 2, 4"]


def test_a_diverged_seed_stays_visible(experiment: Path, report: Report, row: Row) -> None:
    with_seeds(experiment, [1, 2, 3])
    log(experiment, "fc1_bw32_s2").write_text("s:0 tel:4.6\ns:3 trl:nan\n")
    text = report(experiment)
    assert row(text, "Summary", "FC1-32")[2].endswith("(n=2)")
    cells = row(text, "Summary", "FC1-32")
    assert cells[3:7] == [
        cells[3], "-", "-",
        "not shown (by count: worse in 3, better in 0 of 3 seeds, diverged in 1)",
    ]  # fmt: skip
    assert cells[-1] == "seed 2 diverged"
    assert "counts as infinitely bad" in text.split("## Summary")[1].split("\n## ")[0]
    assert row(text, "What happened", "FC1-32")[:2] == ["2", "diverged"]
    assert row(text, "Summary", "FC2-32")[2].endswith("(n=3)")


def test_repeats_are_checked_seed_by_seed(experiment: Path, report: Report, row: Row) -> None:
    with_seeds(experiment, [1, 2])
    edit(log(experiment, "fc1_bw128_s2"), "s:40 tel:2.0", "s:40 tel:2.1")
    text = report(experiment)
    assert "FC1-128, seed 1: identical to Baseline" in text
    assert "FC1-128, seed 2: **NOT identical to Baseline" in text
    assert "* FC2-128 and FC1+FC2-128 keep every weight" in text
    assert row(text, "Summary", "FC1-128")[-1] == "keeps everything: should be the baseline, is NOT"


def test_interval_of_a_sample() -> None:
    values = (1.0, 2.0, 4.0, 8.0)
    low, high = stats.t.interval(0.95, 3, fmean(values), stats.sem(values))
    half = Sample(values).half_width
    assert half == pytest.approx((high - low) / 2, rel=1e-12)
    assert Sample((1.0,)).half_width is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (3, 5, "as expected"), (None, 5, "as expected"), (3, None, "as expected"),
        (5, 10, "not as expected: below the range"), (-1, 1, "not as expected: above the range"),
    ],
)  # fmt: skip
def test_expectation(
    experiment: Path, report: Report, low: float | None, high: float | None, verdict: str
) -> None:
    bounds = "".join(
        f"{key} = {value}\n" for key, value in (("low_percent", low), ("high_percent", high))
        if value is not None
    )  # fmt: skip
    edit(experiment / "matrix.toml", "low_percent = 5\nhigh_percent = 10\n", bounds)
    text = report(experiment)
    line = next(x for x in text.splitlines() if x.startswith("| Bandwidth 32 on FC1"))
    assert f"| {verdict} (one seed)" in line


def test_published_numbers_at_the_last_common_step(
    experiment: Path, report: Report, row: Row
) -> None:
    text = report(experiment)
    assert "The published runs went on to step 100." in text
    assert row(text, "Beside the published numbers", "FC1-32")[1:] == [
        "2.2", "+4.76 %", "2.1118", "+4.00 %", "read off a chart",
    ]  # fmt: skip
    assert "the published Δ is noise" in row(text, "Beside the published numbers", "FC1-128")[-1]


def test_published_numbers_without_a_common_step(
    experiment: Path, report: Report, row: Row
) -> None:
    (experiment / "reference.csv").write_text(
        "step,run,value,note\n0,baseline,4.6,\n100,baseline,1.9,guessed\n100,fc1_bw32,2.0,\n"
    )
    text = report(experiment)
    assert "losses cannot be compared" in text
    cells = row(text, "Beside the published numbers", "FC1-32")
    assert cells[1:] == ["2", "+5.26 %", "its baseline: guessed"]


def test_skipped_and_repeated_lines_are_told(experiment: Path, report: Report) -> None:
    with log(experiment, "fc1_bw64").open("a") as lines:
        lines.write("s:30 tel:2.1069\nnoise\ns:4")
    text = report(experiment)
    assert "* log_fc1_bw64.txt: 2 lines were not understood, one of them a last line cut" in text
    assert "* log_fc1_bw64.txt: 1 losses were logged again" in text
