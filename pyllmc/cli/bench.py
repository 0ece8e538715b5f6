"""`pyllmc bench`: speed on this machine."""

from __future__ import annotations

import json

import click


@click.group()
def bench() -> None:
    """Measure the speed of pyllmc on this machine."""


@bench.command()
@click.option("--channels", "-C", default=128, show_default=True, help="Width C.")
@click.option("--layers", "-L", default=4, show_default=True, help="Blocks L.")
@click.option("--heads", default=4, show_default=True, help="Attention heads NH.")
@click.option("--vocab", default=50257, show_default=True, help="Vocabulary size V.")
@click.option("--batch-size", "-b", default=16, show_default=True, help="Sequences B.")
@click.option("--sequence-length", "-t", default=256, show_default=True, help="Tokens T.")
@click.option("--fc1-bandwidth", "-1", default=0, show_default=True, help="0 = dense.")
@click.option("--fc2-bandwidth", "-2", default=0, show_default=True, help="0 = dense.")
@click.option("--steps", default=7, show_default=True, help="Timed steps, after two untimed.")
@click.option("--threads", default=0, help="Threads.  [default: all processors]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def step(steps: int, threads: int, as_json: bool, **sizes: int) -> None:
    """Time a training step and its peak memory.

    Runs train_banded itself on random tokens and weights (the losses mean nothing). The shape is
    experiment 9's unless given. Quote medians, and ratios of runs made in turn: other programs on
    the machine change single figures.

    \b
      pyllmc bench step
      pyllmc bench step --channels 512 --layers 8 --heads 8 -1 256 -2 256
    """
    from pyllmc.bench.step import StepShape, time_steps

    shape = StepShape(**sizes)
    click.echo(f"training {steps + 2} steps of {shape.tokens:,} tokens ...", err=True)
    timing = time_steps(shape, steps, threads)
    if as_json:
        click.echo(json.dumps(timing.as_dict(shape), indent=2))
        return
    seconds = timing.median_ms / 1e3
    rows = [
        ("shape", f"C={shape.channels} L={shape.layers} NH={shape.heads} V={shape.vocab}"),
        ("batch", f"B={shape.batch_size} T={shape.sequence_length}"),
        ("bandwidths", f"fc1 {shape.fc1_bandwidth}, fc2 {shape.fc2_bandwidth} (0 = dense)"),
        ("threads", str(timing.threads)),
        ("matrix product", timing.gemm),
        ("step, median", f"{timing.median_ms:.0f} ms"),
        ("step, range", f"{min(timing.milliseconds):.0f} to {max(timing.milliseconds):.0f} ms"),
        ("tokens/s", f"{shape.tokens / seconds:,.0f}"),
        ("GFLOP/s, nominal", f"{shape.nominal_flop / seconds / 1e9:.0f}"),
        ("peak memory", f"{timing.peak_memory / 2**20:.0f} MiB"),
    ]
    for name, value in rows:
        click.echo(f"{name:18s}{value}")
