"""The log table: run names, seeds, folders, the .jsonl twin, and `pyllmc parse`."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pyllmc.cli import main
from pyllmc.errors import FormatError
from pyllmc.logs import LogFile, read_log_files, read_logs, run_name


def write(folder: Path, **logs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in logs.items():
        (folder / f"log_{name}.txt").write_text(text)
    return folder


def parse(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["parse", *map(str, arguments)])


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("log_fc1_bw256.txt", ("fc1_bw256", None)),
        ("log_fc1_bw256_s2.txt", ("fc1_bw256", 2)),
        ("log_baseline_s1337.jsonl", ("baseline", 1337)),
        ("main.log", ("main", None)),
        ("log_.txt", ("log_", None)),
        ("log__s3.txt", ("_s3", None)),
        ("dabaaddd-12ed.txt", ("dabaaddd-12ed", None)),
        ("log_a.b_s1.txt", ("a.b", 1)),
        ("log_größe ²_s10.txt", ("größe ²", 10)),
    ],
)
def test_run_and_seed_from_the_file_name(file: str, expected: tuple[str, int | None]) -> None:
    assert run_name(Path("somewhere") / file) == expected


def test_table_is_tidy_and_sorted(tmp_path: Path) -> None:
    write(
        tmp_path,
        b_s10="s:0 tel:4.0\ns:0 trl:5.0 lr:0.1 norm:2.0\nx\n",
        b_s2="s:0 tel:3.0\n",
        b="s:0 tel:7.0\n",
        a="s:2 tel:1.0\ns:1 tel:2.0\ns:1 tsl:2.5\n",
    )
    table = read_logs([tmp_path])
    assert list(table.columns) == ["run", "seed", "step", "split", "loss", "lr", "grad_norm"]
    assert table["seed"].dtype == "Int64"
    assert table["step"].dtype == np.int64
    rows = table[["run", "seed", "step", "split", "loss"]].astype(object).values.tolist()
    assert [[str(value) for value in row] for row in rows] == [
        ["a", "<NA>", "1", "val", "2.0"],
        ["a", "<NA>", "2", "val", "1.0"],
        ["a", "<NA>", "1", "test", "2.5"],
        ["b", "2", "0", "val", "3.0"],
        ["b", "10", "0", "train", "5.0"],
        ["b", "10", "0", "val", "4.0"],
        ["b", "<NA>", "0", "val", "7.0"],
    ]
    train = table[table["split"] == "train"].iloc[0]
    assert (train["lr"], train["grad_norm"]) == (0.1, 2.0)
    assert table["lr"].isna().sum() == 6
    assert table.attrs["skipped"] == {
        str(tmp_path / f"log_{name}.txt"): int(name == "b_s10")
        for name in ("a", "b_s2", "b_s10", "b")
    }


def test_txt_by_default_and_jsonl_in_full(tmp_path: Path) -> None:
    write(tmp_path, a="s:0 tel:2.3457\n", b="s:0 tel:1.0000\n")
    record = {"type": "val", "step": 0, "loss": 2.345678901, "tokens_per_second": 1e6}
    (tmp_path / "log_a.jsonl").write_text(json.dumps(record) + "\n")
    assert read_logs([tmp_path])["loss"].tolist() == [2.3457, 1.0]
    full = read_logs([tmp_path], full=True)
    assert full["loss"].tolist() == [2.345678901, 1.0]
    assert full["tokens_per_second"].tolist()[0] == 1e6


def test_other_logs_of_a_folder_when_there_is_no_log_txt(tmp_path: Path) -> None:
    (tmp_path / "main.log").write_text("s:0 tel:1.0\n")
    (tmp_path / "x.txt").write_text("s:0 tel:2.0\n")
    (tmp_path / "x.jsonl").write_text('{"type":"val","step":0,"loss":9.0}\n')
    (tmp_path / "only.jsonl").write_text('{"type":"val","step":0,"loss":3.0}\n')
    (tmp_path / "notes.md").write_text("s:0 tel:4.0\n")
    table = read_logs([tmp_path])
    assert dict(zip(table["run"], table["loss"], strict=True)) == {"main": 1, "only": 3, "x": 2}


def test_an_experiments_folder_stands_for_its_logs(tmp_path: Path) -> None:
    write(tmp_path / "logs", a="s:0 tel:1.0\n")
    assert read_logs([tmp_path])["run"].tolist() == ["a"]


def test_equal_names_of_two_folders_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "logs", base="s:0 tel:1.0\n")
    write(tmp_path / "two" / "logs", other="s:0 tel:1.0\n")
    table = read_logs([tmp_path / "one", tmp_path / "two"])
    assert set(table["run"]) == {"one/logs/log_base.txt", "two/logs/log_base.txt", "other"}


def test_the_same_file_given_twice_counts_once(tmp_path: Path) -> None:
    folder = write(tmp_path, a="s:0 tel:1.0\n")
    assert len(read_logs([folder, folder / "log_a.txt"])) == 1


def test_two_logs_for_one_cell_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, a="s:0 tel:1.0\n", b="s:0 tel:1.0\n")
    files = [LogFile(folder / f"log_{name}.txt", "same", 1) for name in ("a", "b")]
    with pytest.raises(ValueError, match="one run and seed"):
        read_log_files(files)


def test_no_logs_give_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    table = read_log_files([])
    assert table.empty
    assert table["seed"].dtype == "Int64"
    with pytest.raises(FormatError, match=r"holds no log_\*\.txt"):
        read_logs([tmp_path])
    with pytest.raises(FormatError, match="there is no"):
        read_logs([tmp_path / "none"])


def test_ten_megabytes_take_a_tenth_of_five_seconds(tmp_path: Path) -> None:
    rng = random.Random(1)
    lines = [f"s:{i} trl:{4 + rng.random():.4f}\n" for i in range(510_000)]
    write(tmp_path, a="".join(lines))
    assert (tmp_path / "log_a.txt").stat().st_size > 10e6
    start = time.process_time()
    table = read_logs([tmp_path])
    # Processor time, so that a busy machine does not count: 0.1 s as it is, 1 s by a Python loop.
    assert time.process_time() - start < 0.5
    assert len(table) == len(lines)


def test_parse_prints_a_table_of_validation_losses(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        baseline="s:0 tel:10.8544\ns:0 trl:10.9\ns:500 tel:4.0036\n",
        fc1_bw256="s:0 tel:10.8544\ns:500 tel:nan\n",
        late_s2="s:500 tel:4.0\n",
    )
    result = parse(folder)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["step", "baseline", "fc1_bw256", "late_s2"],
        ["0", "10.8544", "10.8544", "-"],
        ["500", "4.0036", "nan", "4.0000"],
    ]
    assert result.stderr == ""


def test_parse_tells_skipped_lines_on_stderr(tmp_path: Path) -> None:
    folder = write(tmp_path, a="hello\ns:0 tel:1.0\ns:1 tel:1.", b="s:0 tel:1.0\n")
    result = parse(folder)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"{folder / 'log_a.txt'}: 2 of 3 lines not understood (a last line cut short among them)"
    ]


NUMBERS = "s:0 tel:10.854401588439941\ns:0 trl:0.1 lr:0.0003\ns:1 tel:nan\ns:2 tel:-inf\n"


def test_csv_gives_every_number_back(tmp_path: Path) -> None:
    folder = write(tmp_path, a=NUMBERS, b_s7="s:0 tel:1e-300\n")
    result = parse(folder, "--format", "csv", "-o", tmp_path / "out" / "losses.csv")
    assert result.exit_code == 0
    assert result.stdout == ""
    text = (tmp_path / "out" / "losses.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    losses = [float(row["loss"]) for row in rows]
    expected = [0.1, 10.854401588439941, math.nan, -math.inf, 1e-300]
    assert repr(losses) == repr(expected)
    assert [row["seed"] for row in rows] == ["", "", "", "", "7"]
    assert [row["lr"] for row in rows] == ["0.0003", "", "", "", ""]


def test_json_is_strict_and_gives_every_number_back(tmp_path: Path) -> None:
    folder = write(tmp_path, a=NUMBERS + "what\n", b_s7="s:0 tel:1e-300\n")
    result = parse(folder, "--format", "json")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(result.stdout, parse_constant=refuse)
    assert document["schema"] == 1
    assert document["skipped"] == {
        str(folder / "log_a.txt"): 1,
        str(folder / "log_b_s7.txt"): 0,
    }
    assert repr([float(row["loss"]) for row in document["rows"]]) == repr(
        [0.1, 10.854401588439941, math.nan, -math.inf, 1e-300]
    )
    assert document["rows"][0] == {
        "run": "a", "seed": None, "step": 0, "split": "train", "loss": 0.1, "lr": 0.0003,
        "grad_norm": None,
    }  # fmt: skip
    assert document["rows"][4]["seed"] == 7


def test_splits(tmp_path: Path) -> None:
    folder = write(tmp_path, a="s:0 tel:1.5\ns:0 trl:2.5\ns:0 tsl:3.5\ns:0 tsb:4.5\n")
    splits = {"train": "2.5", "val": "1.5", "test": "3.5", "train_subset": "4.5"}
    for split, loss in splits.items():
        assert f"{loss}000" in parse(folder, "--split", split).stdout
        rows = list(
            csv.DictReader(parse(folder, "--split", split, "--format", "csv").stdout.splitlines())
        )
        assert [(row["split"], row["loss"]) for row in rows] == [(split, loss)]
    shown = parse(folder, "--split", "all").stdout
    assert [line for line in shown.splitlines() if line in splits] == list(splits)


def test_full_adds_speed_and_precision(tmp_path: Path) -> None:
    folder = write(tmp_path, a="s:0 trl:2.3457\n")
    record = {"type": "train", "step": 0, "loss": 2.345678901, "tokens_per_second": 1234.5}
    (folder / "log_a.jsonl").write_text(json.dumps(record) + "\n")
    rows = list(csv.DictReader(parse(folder, "--full", "--format", "csv").stdout.splitlines()))
    assert [(row["loss"], row["tokens_per_second"]) for row in rows] == [("2.345678901", "1234.5")]


@pytest.mark.parametrize("text", ["", "hello\n", "s:5 eval:0.3\n"])
def test_a_path_without_a_loss_exits_4(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, a=text)
    good = write(tmp_path / "good", b="s:0 tel:1.0\n")
    result = parse(good, folder / "log_a.txt")
    assert result.exit_code == 4
    assert "holds no loss" in result.stderr
    assert result.stdout == ""
    assert parse(tmp_path / "none").exit_code == 4
    assert parse(good).exit_code == 0


def test_an_empty_log_beside_good_ones_is_no_error(tmp_path: Path) -> None:
    folder = write(tmp_path, a="", b="s:0 tel:1.0\n")
    assert parse(folder).exit_code == 0


def test_parse_refuses_nothing_and_unwritable(tmp_path: Path) -> None:
    assert parse().exit_code == 2
    folder = write(tmp_path, a="s:0 tel:1.0\n")
    (tmp_path / "file").write_text("")
    result = parse(folder, "-o", tmp_path / "file" / "x.csv")
    assert result.exit_code == 1
    assert not os.path.exists(tmp_path / "file" / "x.csv")
