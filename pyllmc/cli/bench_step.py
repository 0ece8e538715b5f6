"""`pyllmc bench step`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from pyllmc.cli.bench_options import (
    POSITIVE,
    common_options,
    compete,
    execution_option,
    model_options,
    peer_options,
    precision_option,
    threads_option,
    torch_peer,
    vocab_option,
)

if TYPE_CHECKING:
    from pyllmc.bench.rounds import Contestant


@click.command()
@model_options
@vocab_option(trained=True)
@click.option(
    "--batch-size", "-b", type=POSITIVE, default=16, show_default=True, help="Sequences B."
)
@click.option(
    "--sequence-length", "-t", type=POSITIVE, default=256, show_default=True, help="Tokens T."
)
@click.option("--fc1-bandwidth", "-1", default=0, show_default=True, help="0 = dense.")
@click.option("--fc2-bandwidth", "-2", default=0, show_default=True, help="0 = dense.")
@execution_option
@precision_option
@click.option(
    "--steps", type=POSITIVE, default=3, show_default=True, help="Timed in a round, after two."
)
@peer_options
@threads_option
@common_options
def step(
    executions: tuple[str, ...],
    precisions: tuple[str, ...],
    steps: int,
    peer: str | None,
    peer_python: str | None,
    threads: int,
    repeats: int,
    as_json: bool,
    **sizes: int,
) -> None:
    """Time a training step and its peak memory.

    Runs train_banded itself, a fresh process each round. The shape is experiment 9's unless given;
    with a bandwidth the dense step runs beside it. PyTorch: eager and compiled for fp32, compiled
    for bf16; its memory is that of the timed steps, ours that of the whole process.

    \b
    pyllmc bench step
    pyllmc bench step --precision fp32 --precision bf16 --peer torch
    pyllmc bench step --channels 512 --layers 8 --heads 8 -1 256 -2 256
    """
    from pyllmc.bench.machine import all_threads
    from pyllmc.bench.step import StepShape, our_contestants, workbench

    threads = all_threads(threads)
    shape = StepShape(**sizes)
    with ExitStack() as stack:
        bench_folder = stack.enter_context(workbench())
        theirs: list[Contestant] = []
        if peer:
            from pyllmc.bench.peer import MODES

            for mode, precision in MODES:
                if precision not in precisions:
                    continue
                # A process for each: their memory is told apart.
                theirs.append(
                    torch_peer(stack, peer_python, f"torch {mode} {precision}").contestant(
                        f"torch {mode} {precision}",
                        "step",
                        repeats=steps,
                        threads=threads,
                        precision=precision,
                        memory=True,
                        flop=shape.dense.flop("mask"),
                        bytes=shape.dense.least_bytes("mask"),
                        tokens=shape.tokens,
                        mode=mode,
                        shape=sizes,
                    )
                )
        ours = our_contestants(
            bench_folder,
            shape,
            steps=steps,
            threads=threads,
            executions=executions,
            precisions=precisions,
            peers=[contestant.name for contestant in theirs],
        )
        compete("step", {**sizes, "steps": steps}, [*theirs, *ours], threads, repeats, as_json)
