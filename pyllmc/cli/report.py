"""`pyllmc report`: reads an experiment's files and hands their values to pyllmc.report."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyllmc.cli.matrix import folder_argument, set_option
from pyllmc.errors import FormatError

if TYPE_CHECKING:
    from pyllmc.experiments.matrix import Matrix, Run
    from pyllmc.experiments.metrics import Metrics
    from pyllmc.report.inputs import Arm, Band, Experiment, Published, Trial

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
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where `matrix run --out` put its results; the report goes there too.  [default: FOLDER]",
)
@click.option(
    "--logs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Take the logs from there.  [default: logs/ of the folder]",
)
@set_option
def report(folder: Path, out: Path | None, logs: Path | None, settings: tuple[str, ...]) -> None:
    """Write an experiment's README.md with tables and charts from its logs.

    Missing, unfinished and diverged runs are named, and left out of the comparisons. The same
    files give the same report, byte for byte.

    \b
      pyllmc report
      pyllmc report runs/demo
      pyllmc report runs/demo --out try

    Prints the path of the report. Exit code 4: no run of the experiment has logged a loss.
    """
    from pyllmc.experiments.matrix import load_matrix
    from pyllmc.experiments.overrides import parse_overrides

    matrix = load_matrix(folder, parse_overrides(settings), out)
    experiment = load_experiment(matrix, logs)
    if experiment.losses.empty:
        where = logs or matrix.out / "logs"
        raise FormatError(
            f"{where} has no losses of {folder}'s runs: run `pyllmc matrix run {folder}` first."
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
    shape, source = _architecture(matrix, metrics)
    return Experiment(
        title=matrix.title,
        description=matrix.description,
        questions=matrix.questions,
        baseline=matrix.baseline,
        arms=tuple(_arm(matrix, run, shape["channels"]) for run in matrix.runs),
        seeds=matrix.seeds,
        trials=tuple(trials),
        losses=read_log_files(files),
        full_losses=read_log_files(full_files),
        architecture=shape,
        architecture_source=source,
        expectations=tuple(
            Expectation(e.text, e.run, e.against, e.low_percent, e.high_percent)
            for e in matrix.expectations
        ),
        published=() if matrix.reference is None else _published(matrix.reference),
        provenance=_provenance(matrix, metrics),
        margin=getattr(matrix, "margin", None),
    )


def _arm(matrix: Matrix, run: Run, channels: int) -> Arm:
    from pyllmc.experiments.settings import resolve
    from pyllmc.report.inputs import Arm

    settings = resolve(run.settings, None)
    if matrix.seeds != (None,):
        # The cell's seed stands for both unless the matrix file fixes one.
        settings = {
            key: value
            for key, value in settings.items()
            if key not in ("init_seed", "data_seed") or key in run.settings
        }
    hidden = 4 * channels
    return Arm(
        name=run.name,
        label=run.label,
        baseline=run.baseline,
        settings=settings,
        data={"train": run.data.train, "val": run.data.val, "test": run.data.test},
        bands={
            "fc1": _band(hidden, channels, run.fc1_bandwidth),
            "fc2": _band(channels, hidden, run.fc2_bandwidth),
        },
    )


def _band(rows: int, cols: int, bandwidth: int) -> Band:
    from pyllmc import _core
    from pyllmc.report.inputs import Band

    pattern = _core.Pattern.band(rows, cols, bandwidth)
    return Band(bandwidth, pattern.kept, rows * cols)


def _trial(
    matrix: Matrix, run: Run, seed: int | None, log: Path, metrics: Metrics, elsewhere: bool
) -> Trial:
    from pyllmc.experiments.plan import outcome
    from pyllmc.experiments.state import read_json, read_state
    from pyllmc.report.inputs import Trial

    settings = {key: value for key, value in metrics.settings.items() if key != "type"}
    if elsewhere:
        # The runner's records are about the logs that it wrote, not about these.
        return Trial(run.name, seed, log.name, settings, metrics.end or "unrecorded")
    cell = matrix.cell_dir(run, seed)
    record = read_json(cell / "config.json") or {}
    asked = (record.get("configuration") or {}).get("settings") or {}
    state = read_state(cell)
    return Trial(
        run.name,
        seed,
        log.relative_to(matrix.out).as_posix(),
        {**asked, **settings},
        outcome(matrix, run, seed),
        state.message if state else "",
    )


def _architecture(matrix: Matrix, metrics: list[Metrics]) -> tuple[dict[str, int], str]:
    """The shape, from the initial weights, else from a run's settings, else from the matrix."""
    from pyllmc import _core

    model = matrix.model_path(matrix.seeds[0])
    logged = [m.settings for m in metrics if all(key in m.settings for key in _SHAPE.values())]
    if model.is_file():
        header = _core.read_checkpoint_header(str(model))
        shape, source = {key: int(header[key]) for key in _SHAPE}, f"`{model.name}`"
    elif logged:
        shape = {key: int(logged[0][name]) for key, name in _SHAPE.items()}
        source = f"the runs' settings (there is no `{model.name}`)"
    else:
        wanted = matrix.model
        values = (wanted.context, wanted.vocab, wanted.layers, wanted.heads, wanted.channels)
        shape = dict(zip(_SHAPE, values, strict=False))
        shape["padded_vocab_size"] = -(-wanted.vocab // 128) * 128
        source = f"the matrix file (there is no `{model.name}`)"
    c = shape["channels"]
    # llm.c's 16 tensors: embeddings; per layer 12 C² in matrices and 13 C in norms and biases;
    # the final norm.
    shape["parameters"] = (
        (shape["padded_vocab_size"] + shape["max_seq_len"] + 2) * c
        + shape["num_layers"] * (12 * c * c + 13 * c)
    )  # fmt: skip
    return shape, source


def _published(path: Path) -> tuple[Published, ...]:
    from pyllmc.report.inputs import Published

    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not {"step", "run", "value"} <= set(reader.fieldnames or ()):
            raise FormatError(f"{path} begins with {reader.fieldnames}, expected the columns step, "
                              "run, value and note.")  # fmt: skip
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
                    "step, a run, a number and a note."
                ) from None
    return tuple(found)


def _provenance(matrix: Matrix, metrics: list[Metrics]) -> dict[str, str]:
    """What made the numbers, without a time or a place."""
    from pyllmc import __version__
    from pyllmc.experiments.state import read_json

    facts: dict[str, list[str]] = {"Report by pyllmc": [__version__]}

    def add(name: str, value: Any) -> None:
        if value is not None and str(value) not in facts.setdefault(name, []):
            facts[name].append(str(value))

    for cell, run in zip(matrix.cells(), metrics, strict=True):
        add("trained by version", run.settings.get("version"))
        gemm = [run.settings[key] for key in ("gemm", "gemm_core") if run.settings.get(key)]
        add("matrix products by", " ".join(map(str, gemm)) or None)
        record = read_json(matrix.cell_dir(cell.run, cell.seed) / "config.json") or {}
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
