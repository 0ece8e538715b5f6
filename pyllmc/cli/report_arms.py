"""What `pyllmc report` knows of every run before it looks at logs: settings, bands, kind of MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    return next(
        run.name
        for run in matrix.runs
        if name == (run.name if name in names else getattr(run, "arm", run.name))
    )


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
    model = getattr(run, "model", matrix.model)
    hidden = int(getattr(model, "hidden", 0) or 4 * channels)
    rank = int(getattr(model, "mlp_rank", 0) or 0)
    pattern = str(run.settings.get("pattern", "band"))
    bands = {
        "fc1": _band(pattern, "rows", hidden, channels, run.settings.get("fc1_bandwidth", 0)),
        "fc2": _band(pattern, "cols", channels, hidden, run.settings.get("fc2_bandwidth", 0)),
    }
    return Arm(
        name=run.name,
        label=run.label,
        baseline=first_run(matrix, run.baseline),
        settings=settings,
        data={"train": run.data.train, "val": run.data.val, "test": run.data.test},
        bands=bands,
        mlp=_mlp(run, pattern, bands, channels, layers, hidden, rank),
    )


def _mlp(
    run: Run, pattern: str, bands: dict[str, Band], channels: int, layers: int, hidden: int,
    rank: int,
) -> Mlp:  # fmt: skip
    from pyllmc.report.inputs import Mlp

    sparse = any(not band.keeps_all for band in bands.values())
    shape = "low-rank" if rank else ""
    if hidden != 4 * channels and not rank:
        shape = "wider" if hidden > 4 * channels else "narrower"
    stored = layers * 2 * hidden * channels
    weights = sum(layers * band.kept // band.layers for band in bands.values())
    if rank:
        stored = weights = layers * 2 * rank * (hidden + channels)
    seed = run.settings.get("mask_seed", 1337)
    return Mlp(
        pattern if sparse else "band",
        int(str(seed)) if sparse and pattern != "band" else None,
        shape,
        weights,
        stored,
    )


def _band(pattern: str, hidden_axis: str, rows: int, cols: int, bandwidth: Any) -> Band:
    from pyllmc import _core
    from pyllmc.report.inputs import Band

    widths = _widths(bandwidth)
    made = [_core.Pattern.make(pattern, rows, cols, hidden_axis, width) for width in widths]
    return Band(
        widths[0] if len(set(widths)) == 1 else tuple(widths),
        sum(p.kept for p in made),
        len(made) * rows * cols,
        len(made),
    )


def _widths(bandwidth: Any) -> list[int]:
    """One bandwidth for all layers, or one for each; equal ones are one."""
    if isinstance(bandwidth, str):
        bandwidth = bandwidth.split(",")
    widths = [int(w) for w in bandwidth] if isinstance(bandwidth, (list, tuple)) else [bandwidth]
    return widths[:1] if len(set(widths)) == 1 else widths
