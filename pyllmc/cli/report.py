"""`pyllmc report`: reads an experiment's files and hands their values to pyllmc.report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyllmc.cli.matrix_options import folder_argument, open_matrix, results_option, set_option
from pyllmc.errors import FormatError

if TYPE_CHECKING:
    import pandas as pd

    from pyllmc.experiments.matrix import Matrix, Run
    from pyllmc.experiments.metrics import Metrics
    from pyllmc.report.inputs import Experiment, Published, Trial

_SHAPE = {
    "max_seq_len": "max_sequence_length",
    "vocab_size": "vocab_size",
    "num_layers": "layers",
    "num_heads": "heads",
    "channels": "channels",
    "padded_vocab_size": "padded_vocab_size",
}


@click.command()
@folder_argument
@results_option("--out")
@click.option(
    "--logs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Read the logs from DIR.  [default: logs/ of the results]",
)
@set_option
def report(folder: Path, out: Path | None, logs: Path | None, settings: tuple[str, ...]) -> None:
    """Write an experiment's README.md, charts and report.html from its logs.

    All are written beside the results. report.html is one page that works offline, with charts to
    pick runs in, the weights and every run's record; it needs plotly (pip install
    'pyllmc[report]') and is left out without. Missing, unfinished and diverged runs are named, and
    left out of the comparisons. The same files give the same report, byte for byte.

    \b
      pyllmc report
      pyllmc report runs/demo
      pyllmc report runs/demo --out try

    Prints the path of the report. Exit code 4: no run of the experiment has logged a loss.
    """
    matrix = open_matrix(folder, settings, out)
    experiment = load_experiment(matrix, logs)
    if experiment.losses.empty:
        where = logs or matrix.out / "logs"
        raise FormatError(
            f"{where} has no losses of {folder}'s runs: run `pyllmc matrix run {folder}` first"
        )
    from pyllmc.cli.report_html import write_page
    from pyllmc.report.write import write_report

    readme = write_report(experiment, matrix.out)
    write_page(matrix, experiment, logs, readme)
    click.echo(readme)


def load_experiment(matrix: Matrix, logs: Path | None = None) -> Experiment:
    """Everything that a report of `matrix` needs, read from the experiment's files.

    `logs` replaces the folder of the logs. Raises FormatError for a file that cannot be read.
    """
    from pyllmc.cli.report_arms import first_run, load_arms
    from pyllmc.experiments.metrics import read_metrics
    from pyllmc.logs import LogFile, full_log, read_log_files
    from pyllmc.report.inputs import Expectation, Experiment

    files, full_files, trials = [], [], []
    metrics = []
    for cell in matrix.cells():
        log = matrix.log_path(cell.run, cell.seed)
        if logs is not None:
            log = logs / log.name
        if log.is_file():
            files.append(LogFile(log, cell.run.name, cell.seed))
            if full_log(log).is_file():
                full_files.append(LogFile(full_log(log), cell.run.name, cell.seed))
        metrics.append(read_metrics(log))
        trials.append(_trial(matrix, cell.run, cell.seed, log, metrics[-1], logs is not None))
    full_losses = read_log_files(full_files, full=True)
    clocks = _clocks(full_losses)
    trials = [replace(t, seconds=_seconds(t, clocks.get((t.arm, t.seed)))) for t in trials]
    shape, source = _architecture(matrix, metrics)
    return Experiment(
        title=matrix.title,
        description=matrix.description,
        questions=matrix.questions,
        baseline=first_run(matrix, matrix.baseline),
        arms=load_arms(matrix, shape),
        seeds=matrix.seeds,
        trials=tuple(trials),
        losses=read_log_files(files),
        full_losses=full_losses,
        architecture=shape,
        architecture_source=source,
        expectations=tuple(
            Expectation(
                e.text,
                first_run(matrix, e.run),
                first_run(matrix, e.against),
                e.low_percent,
                e.high_percent,
            )
            for e in matrix.expectations
        ),
        published=() if matrix.reference is None else _published(matrix.reference),
        provenance=_provenance(matrix, metrics),
        margin=matrix.margin,
    )


def _trial(
    matrix: Matrix, run: Run, seed: int | None, log: Path, metrics: Metrics, elsewhere: bool
) -> Trial:
    from pyllmc.experiments.plan import outcome
    from pyllmc.experiments.state import read_record, read_state
    from pyllmc.report.inputs import Trial

    settings = {key: value for key, value in metrics.settings.items() if key != "type"}
    if elsewhere:
        # The runner's records are about the logs that it wrote, not about these.
        return Trial(run.name, seed, log.name, settings, metrics.end or "unrecorded")
    cell = matrix.cell_dir(run, seed)
    record = read_record(cell / "config.json") or {}
    asked = (record.get("configuration") or {}).get("settings") or {}
    state = read_state(cell)
    return Trial(
        run.name,
        seed,
        log.relative_to(matrix.out).as_posix(),
        {**asked, **settings},
        outcome(matrix, run, seed),
        state.message if state else "",
        state.alone if state else None,
        _machine(record),
    )


def _machine(record: Mapping[str, Any]) -> str:
    """What a run's times were measured on, from its config.json; empty when that does not say."""
    device = record.get("device") or {}
    gpu = (device.get("gpu") or {}).get("name")
    parts = [gpu or device.get("processor"), None if gpu else f"{device.get('cores')} cores"]
    return ", ".join(part for part in parts if part) if device else ""


def _clocks(table: pd.DataFrame) -> dict[tuple[str, int | None], dict[int, float]]:
    """Tokens a second by step of every run whose .jsonl has them."""
    from pyllmc.report.outcomes import cell_key

    rows = table[table["split"] == "train"].dropna(subset=["tokens_per_second"])
    return {
        cell_key(run, seed): dict(
            zip(part["step"].tolist(), part["tokens_per_second"].tolist(), strict=True)
        )
        for (run, seed), part in rows.groupby(["run", "seed"], observed=True, dropna=False)
    }


def _seconds(trial: Trial, speeds: Mapping[int, float] | None) -> dict[int, float]:
    """Seconds of training done at each step (before its update); empty when a step is missing."""
    if not speeds or list(speeds) != list(range(len(speeds))):
        return {}
    tokens = trial.settings.get("accumulate") or 1
    for key in ("batch_size", "sequence_length"):
        tokens *= trial.settings.get(key) or 0
    times = accumulate(tokens / speed for speed in speeds.values())
    return {step + 1: seconds for step, seconds in enumerate(times)}


def _architecture(matrix: Matrix, metrics: list[Metrics]) -> tuple[dict[str, int], str]:
    """The shape, from the initial weights, else from a run's settings, else from the matrix."""
    from pyllmc import _core
    from pyllmc.models.shape import mlp_weights, padded_vocab, parameters

    model = matrix.model_path(matrix.seeds[0])
    logged = [m.settings for m in metrics if all(key in m.settings for key in _SHAPE.values())]
    if model.is_file():
        header = _core.read_model_header(str(model))
        shape = {key: int(header[key]) for key in (*_SHAPE, "hidden", "mlp_rank")}
        source = f"`{model.name}`"
    elif logged:
        shape = {key: int(logged[0][name]) for key, name in _SHAPE.items()}
        source = f"the runs' settings (there is no `{model.name}`)"
    else:
        wanted = matrix.model
        values = (wanted.context, wanted.vocab, wanted.layers, wanted.heads, wanted.channels)
        shape = dict(zip(_SHAPE, values, strict=False))
        shape["padded_vocab_size"] = padded_vocab(wanted.vocab)
        source = f"the matrix file (there is no `{model.name}`)"
    c = shape["channels"]
    hidden = shape.setdefault("hidden", matrix.model.hidden or 4 * c)
    rank = shape.setdefault("mlp_rank", matrix.model.mlp_rank)
    shape["parameters"] = parameters(
        channels=c,
        layers=shape["num_layers"],
        context=shape["max_seq_len"],
        padded_vocab=shape["padded_vocab_size"],
        hidden=hidden,
        mlp=shape["num_layers"] * mlp_weights(c, hidden, rank),
    )
    return shape, source


def _published(path: Path) -> tuple[Published, ...]:
    from pyllmc.report.inputs import Published

    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not {"step", "run", "value"} <= set(reader.fieldnames or ()):
            raise FormatError(f"{path} begins with {reader.fieldnames}, expected the columns step, "
                              "run, value and note")  # fmt: skip
        found = []
        for row in reader:
            try:
                found.append(
                    Published(
                        int(row["step"]), row["run"], float(row["value"]), row.get("note") or ""
                    )
                )
            except (TypeError, ValueError):
                raise FormatError(
                    f"{path}, line {reader.line_num}, is {list(row.values())}, expected a whole "
                    "step, a run, a number and a note"
                ) from None
    return tuple(found)


def _provenance(matrix: Matrix, metrics: list[Metrics]) -> dict[str, str]:
    """What made the numbers, without a time or a place."""
    from pyllmc import __version__
    from pyllmc.experiments.state import read_record

    facts: dict[str, list[str]] = {"Report by pyllmc": [__version__]}

    def add(name: str, value: Any) -> None:
        if value is not None and str(value) not in facts.setdefault(name, []):
            facts[name].append(str(value))

    for cell, run in zip(matrix.cells(), metrics, strict=True):
        add("trained by version", run.settings.get("version"))
        kernels = [run.settings[key] for key in ("kernels", "gpu") if run.settings.get(key)]
        add("matrix products by", " ".join(map(str, kernels)) or None)
        record = read_record(matrix.cell_dir(cell.run, cell.seed) / "config.json") or {}
        git = record.get("git") or {}
        changed = " with changes" if git.get("dirty") else ""
        add("code at commit", git.get("commit") and git["commit"][:12] + changed)
        made_from = record.get("configuration") or {}
        model = (made_from.get("model") or {}).get("sha256")
        add("initial weights (sha256)", model and model[:12])
        for split, digest in (made_from.get("data") or {}).items():
            add(f"{split} tokens (sha256)", digest and digest[:12])
        for key in ("init_seed", "data_seed"):
            add(key.replace("_", " "), run.settings.get(key))
    return {name: " and ".join(values) for name, values in facts.items() if values}
