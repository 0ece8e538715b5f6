"""`pyllmc parse`: logs as a table for people, or as tidy CSV or JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyllmc.errors import FormatError
from pyllmc.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path)
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    help="table: one row per step, one column per run; csv, json: one row per loss, in full "
    "precision.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "train_subset", "all"]),
    help="Losses to show.  [default: val in a table, all in csv and json]",
)
@click.option(
    "--full",
    is_flag=True,
    help="Read the .jsonl beside each log: full precision, lr, gradient norm, tokens/s.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to FILE instead of stdout.",
)
def parse(
    paths: tuple[Path, ...], form: str, split: str | None, full: bool, output: Path | None
) -> None:
    """Read training logs into one table.

    PATH is a log, or a folder of logs (log_*.txt, else *.txt, *.log, *.jsonl; else its logs/).
    Lines of pyllmc, llm.c and modded-nanogpt are understood; of a step logged twice the last
    counts. stderr says how many lines were not understood.

    \b
      pyllmc parse runs/demo/logs
      pyllmc parse log_a.txt log_b.txt --split train --format csv -o losses.csv

    In csv and json a loss that is not finite is written as nan, inf or -inf (json: as text).
    Exit code 4: a path holds no loss at all.
    """
    from pyllmc.logs import SPLITS, find_logs, read_logs

    table = read_logs(paths, full=full)
    lines = {Path(file).with_suffix(""): n for file, n in table.attrs["counts"].items()}
    for path in paths:
        counts = [lines[file.with_suffix("")] for file in find_logs(path)]
        if all(n["lines"] == n["blank"] + n["other"] + n["skipped"] for n in counts):
            raise FormatError(f"{path} holds no loss: give a training log, or a folder of them")
    for file, n in table.attrs["counts"].items():
        if n["skipped"]:
            torn = " (a last line cut short among them)" if n["torn"] else ""
            click.echo(
                f"{file}: {n['skipped']} of {n['lines']} lines not understood{torn}", err=True
            )
    wanted = split or ("val" if form == "table" else "all")
    if wanted != "all":
        table = table[table["split"] == wanted]
    if form == "csv":
        text = _csv(table)
    elif form == "json":
        text = _json(table)
    else:
        parts = [(name, table[table["split"] == name]) for name in SPLITS]
        shown = [(name, part) for name, part in parts if len(part)]
        text = "\n".join(
            (f"{name}\n" if len(shown) > 1 else "") + _pivot(part) for name, part in shown
        )
        if not shown:
            click.echo(f"no {wanted} losses; --split all shows the others", err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        atomic_write(output, text)


def _pivot(table: pd.DataFrame) -> str:
    """A row a step, a column a run, `-` where a run has no loss."""
    names = (
        table["run"]
        .astype(str)
        .where(table["seed"].isna(), table["run"].astype(str) + "_s" + table["seed"].astype(str))
    )
    columns: dict[str, dict[int, str]] = {}
    for name, part in table.groupby(names, sort=False):
        texts = (f"{loss:.4f}" for loss in part["loss"])
        columns[str(name)] = dict(zip(part["step"], texts, strict=True))
    steps = sorted({step for column in columns.values() for step in column})
    rows = [["step", *columns]]
    rows += [[str(step), *(c.get(step, "-") for c in columns.values())] for step in steps]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n"
        for row in rows
    )


def _csv(table: pd.DataFrame) -> str:
    if not table["loss"].notna().all():
        # An empty field would read as "not logged"; this one was logged and is not a number.
        table = table.assign(loss=table["loss"].map(repr))
    return table.to_csv(index=False, lineterminator="\n")


def _json(table: pd.DataFrame) -> str:
    rows = [
        {name: _json_value(name, value) for name, value in row.items()}
        for row in table.astype({"run": str, "split": str, "seed": object}).to_dict("records")
    ]
    skipped = table.attrs["skipped"]
    return json.dumps({"schema": 1, "skipped": skipped, "rows": rows}, allow_nan=False) + "\n"


def _json_value(name: Any, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value) if name == "loss" else None
    # pandas' mark of a missing whole number is equal to nothing, itself included.
    return value if isinstance(value, (str, int, float)) else None
