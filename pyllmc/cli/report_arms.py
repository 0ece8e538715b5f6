"""What `pyllmc report` knows of every run before it looks at logs: settings, bands, kind of MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyllmc.experiments.matrix import Matrix, Run
    from pyllmc.report.inputs import Arm, Band, Mlp


def load_arms(matrix: Matrix, shape: Mapping[str, int]) -> tuple[Arm, ...]:
    """Every run of a matrix as an arm of the report; each is compared with its baseline at its own
    learning rate if that was run. `shape` is that of the matrix's [model], as in Experiment."""
    from pyllmc.report.rates import at_equal_rates

    arms = tuple(_arm(matrix, run, shape) for run in matrix.runs)
    baselines = at_equal_rates(arms)
    return tuple(replace(arm, baseline=baselines[arm.name]) for arm in arms)


def first_run(matrix: Matrix, name: str) -> str:
    """The run that a name of the matrix file stands for: of an arm with several learning rates the
    first."""
    names = [run.name for run in matrix.runs]
    return next(run.name for run in matrix.runs if name == (run.name if name in names else run.arm))


def _arm(matrix: Matrix, run: Run, shape: Mapping[str, int]) -> Arm:
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
    patterns = _patterns(run, shape["channels"])
    return Arm(
        name=run.name,
        label=run.label,
        baseline=first_run(matrix, run.baseline),
        settings=settings,
        data={"train": run.data.train, "val": run.data.val, "test": run.data.test},
        bands={name: _band(found) for name, found in patterns.items()},
        mlp=_mlp(run, patterns, shape),
    )


def _patterns(run: Run, channels: int) -> dict[str, list[Any]]:
    """Patterns of FC1 and FC2: one a layer, or one that all layers have; none where the weights
    are products of factors."""
    from pyllmc import _core

    if run.model.mlp_rank:
        return {}
    hidden = run.model.hidden or 4 * channels
    found = {}
    for name, shape, by_layer in (
        ("fc1", (hidden, channels, "rows"), run.fc1_bandwidths),
        ("fc2", (channels, hidden, "cols"), run.fc2_bandwidths),
    ):
        widths = by_layer[:1] if len(set(by_layer)) == 1 else by_layer
        found[name] = [_core.Pattern.make(run.pattern, *shape, width) for width in widths]
    return found


def _mlp(run: Run, patterns: Mapping[str, Sequence[Any]], shape: Mapping[str, int]) -> Mlp:
    """The MLP beside that of the matrix's [model]."""
    from pyllmc.models.shape import band_macs, mlp_weights
    from pyllmc.report.inputs import Mlp

    channels, layers = shape["channels"], shape["num_layers"]
    hidden, rank = run.model.hidden or 4 * channels, run.model.mlp_rank
    sparse = any(not p.is_dense for found in patterns.values() for p in found)
    word = "low-rank" if rank and rank != shape["mlp_rank"] else ""
    if hidden != shape["hidden"] and not rank:
        word = "wider" if hidden > shape["hidden"] else "narrower"
    weights = _over_layers(patterns, layers, lambda _, p: p.kept)
    stored = _over_layers(patterns, layers, lambda _, p: p.total)
    alone = _over_layers(
        patterns, layers, lambda name, p: band_macs(name, p) if p.pays else p.total
    )
    if rank:
        weights = stored = alone = layers * mlp_weights(channels, hidden, rank)
    return Mlp(
        run.pattern if sparse else "band",
        run.mask_seed if sparse and run.pattern != "band" else None,
        word,
        weights,
        stored,
        alone,
    )


def _over_layers(
    patterns: Mapping[str, Sequence[Any]], layers: int, count: Callable[[str, Any], Any]
) -> Any:
    """The sum of count(name, pattern) over both weights of all layers."""
    return sum(
        sum(count(name, pattern) for pattern in found) * (layers // len(found))
        for name, found in patterns.items()
    )


def _band(patterns: Sequence[Any]) -> Band:
    from pyllmc.report.inputs import Band

    widths = tuple(p.bandwidth for p in patterns)
    return Band(
        widths[0] if len(widths) == 1 else widths,
        sum(p.kept for p in patterns),
        sum(p.total for p in patterns),
        len(patterns),
    )
