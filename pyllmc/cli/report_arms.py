"""What `pyllmc report` knows of every run before it looks at logs: settings, bands, kind of MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyllmc.experiments.matrix import Matrix, Run
    from pyllmc.report.inputs import Arm, Band, Mlp


def load_arms(matrix: Matrix, channels: int, layers: int) -> tuple[Arm, ...]:
    """Every run of a matrix as an arm of the report; each is compared with its baseline at its own
    learning rate if that was run."""
    from pyllmc.report.rates import at_equal_rates

    arms = tuple(_arm(matrix, run, channels, layers) for run in matrix.runs)
    baselines = at_equal_rates(arms)
    return tuple(replace(arm, baseline=baselines[arm.name]) for arm in arms)


def first_run(matrix: Matrix, name: str) -> str:
    """The run that a name of the matrix file stands for: of an arm with several learning rates the
    first."""
    names = [run.name for run in matrix.runs]
    return next(run.name for run in matrix.runs if name == (run.name if name in names else run.arm))


def _arm(matrix: Matrix, run: Run, channels: int, layers: int) -> Arm:
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
    hidden = run.model.hidden or 4 * channels
    bands = {
        "fc1": _band(run.pattern, "rows", hidden, channels, run.fc1_bandwidths),
        "fc2": _band(run.pattern, "cols", channels, hidden, run.fc2_bandwidths),
    }
    return Arm(
        name=run.name,
        label=run.label,
        baseline=first_run(matrix, run.baseline),
        settings=settings,
        data={"train": run.data.train, "val": run.data.val, "test": run.data.test},
        bands=bands,
        mlp=_mlp(matrix, run, bands, channels, layers),
    )


def _mlp(matrix: Matrix, run: Run, bands: dict[str, Band], channels: int, layers: int) -> Mlp:
    """The MLP beside that of the matrix's [model]."""
    from pyllmc.report.inputs import Mlp

    hidden, rank = run.model.hidden or 4 * channels, run.model.mlp_rank
    usual = matrix.model.hidden or 4 * channels
    sparse = any(not band.keeps_all for band in bands.values())
    shape = "low-rank" if rank else ""
    if hidden != usual and not rank:
        shape = "wider" if hidden > usual else "narrower"
    stored = layers * 2 * hidden * channels
    weights = sum(layers * band.kept // band.layers for band in bands.values())
    if rank:
        stored = weights = layers * 2 * rank * (hidden + channels)
    return Mlp(
        run.pattern if sparse else "band",
        run.mask_seed if sparse and run.pattern != "band" else None,
        shape,
        weights,
        stored,
    )


def _band(pattern: str, hidden_axis: str, rows: int, cols: int, by_layer: tuple[int, ...]) -> Band:
    from pyllmc import _core
    from pyllmc.report.inputs import Band

    widths = by_layer[:1] if len(set(by_layer)) == 1 else by_layer
    made = [_core.Pattern.make(pattern, rows, cols, hidden_axis, width) for width in widths]
    return Band(
        widths[0] if len(widths) == 1 else widths,
        sum(p.kept for p in made),
        len(made) * rows * cols,
        len(made),
    )
