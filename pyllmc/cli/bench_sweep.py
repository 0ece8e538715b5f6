"""`pyllmc bench sweep`."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.bench_options import (
    POSITIVE,
    numbers_above_0,
    precision_option,
    threads_option,
    vocab_option,
)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results.")
@click.option("--quick", is_flag=True, help="Tiny shapes, one round: a trial of the command.")
@click.option(
    "--channels",
    default="128,512,1024",
    show_default=True,
    callback=numbers_above_0,
    help="Widths whose bandwidths are swept.",
)
@click.option("--layers", "-L", type=POSITIVE, default=2, show_default=True, help="L of these.")
@vocab_option(4096, trained=True)
@click.option("--batch-size", "-b", type=POSITIVE, default=4, show_default=True, help="B.")
@click.option("--sequence-length", "-t", type=POSITIVE, default=256, show_default=True, help="T.")
@precision_option
@click.option(
    "--steps", type=POSITIVE, default=3, show_default=True, help="Timed in a round, at least."
)
@threads_option
@click.option("--repeats", "-r", type=POSITIVE, default=5, show_default=True, help="Rounds.")
def sweep(
    out: Path,
    quick: bool,
    channels: list[int],
    layers: int,
    vocab: int,
    batch_size: int,
    sequence_length: int,
    precisions: tuple[str, ...],
    steps: int,
    threads: int,
    repeats: int,
) -> None:
    """Time and memory of a step against bandwidth, and how a step grows with B, T, C and L.

    Writes sweep.md, sweep.json and two plots, and says before each part how long the rest takes.
    Parts that sweep.json holds already, measured by the same program, are kept: an interrupted
    sweep goes on where it was. Other settings need another folder.

    \b
    pyllmc bench sweep --out sweep --quick
    pyllmc bench sweep --out sweep --channels 128,512 --layers 4 --precision fp32 --precision bf16
    """
    from pyllmc.bench.machine import all_threads
    from pyllmc.bench.sweep import Sweep

    plan = Sweep(
        channels=tuple(channels),
        layers=layers,
        vocab=vocab,
        batch_size=batch_size,
        sequence_length=sequence_length,
        precisions=precisions,
        steps=steps,
        threads=all_threads(threads),
        repeats=repeats,
    )
    for path in (plan.quick() if quick else plan).run(out):
        click.echo(path)
