"""Experiments on losses that were never trained for, made in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pyllmc.report.inputs import Arm, Band, Experiment, Mlp, Trial

SEEDS = (1, 2, 3, 4, 5)
DENSE, HALF, ALONE = 1024, 460, 700
SETTINGS = {"steps": 10, "batch_size": 4, "sequence_length": 32, "learning_rate": 3e-4}
Losses = Mapping[str, Sequence[float]]


def arm(name: str, width: int = 0, pattern: str = "band", shape: str = "", draw: int = 1) -> Arm:
    """An arm of a model of C = 16 and two layers, compared with "dense"; width 32 or 0."""
    kept = HALF if width else DENSE
    weights = {"": 4 * kept, "wider": 4 * DENSE, "narrower": 1850, "low-rank": 1840}[shape]
    band = Band(width, kept, DENSE)
    return Arm(
        name, name, "dense", {**SETTINGS, "mask_seed": draw}, {"train": "t", "val": "v"},
        {"fc1": band, "fc2": band},
        Mlp(
            pattern, draw if pattern == "random" else None, shape, weights, 4 * DENSE,
            4 * ALONE if width else weights,
        ),
    )  # fmt: skip


def build(
    losses: Losses,
    arms: Sequence[Arm],
    seeds: Sequence[int] = SEEDS,
    *,
    margin: float | None = None,
    test: Losses | None = None,
    subset: Losses | None = None,
) -> Experiment:
    """Final losses by arm and seed (steps 0 and 10 are logged, the first 2 nats above), and with
    them test losses and losses on a part of the training data. The baseline is the first arm."""
    rows = [
        (name, seed, step, "val", loss + (2.0 if step == 0 else 0.0))
        for name, values in losses.items()
        for seed, loss in zip(seeds, values, strict=True)
        for step in (0, 10)
    ]
    for split, more in (("test", test or {}), ("train_subset", subset or {})):
        rows += [
            (name, seed, 10, split, loss)
            for name, values in more.items()
            for seed, loss in zip(seeds, values, strict=True)
        ]
    table = pd.DataFrame(rows, columns=["run", "seed", "step", "split", "loss"])
    table["seed"] = table["seed"].astype("Int64")
    return Experiment(
        title="Synthetic", description="Drawn, not trained.", questions=(), baseline=arms[0].name,
        arms=tuple(arms), seeds=tuple(seeds) if len(seeds) > 1 else (seeds[0],),
        trials=tuple(Trial(a.name, s, f"log_{a.name}_s{s}.txt") for a in arms for s in seeds),
        losses=table, full_losses=table.iloc[:0],
        architecture={
            "channels": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 100,
            "padded_vocab_size": 128, "max_seq_len": 32, "hidden": 64, "mlp_rank": 0,
            "parameters": 9152,
        },
        architecture_source="the test", margin=margin,
    )  # fmt: skip
