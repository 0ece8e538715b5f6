"""`pyllmc bench linear` and `loss`: one op each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from pyllmc.cli.bench_options import (
    POSITIVE,
    common_options,
    compete,
    execution_option,
    numbers_above_0,
    peer_options,
    precision_option,
    threads_option,
    tokens_option,
    torch_peer,
    vocab_option,
)


@click.command()
@tokens_option
@click.option("--channels", "-C", type=POSITIVE, default=512, show_default=True, help="C.")
@click.option("--hidden", type=click.IntRange(min=0), default=0, show_default="4 C", help="H.")
@click.option(
    "--layer",
    "layers",
    type=click.Choice(["fc1", "fc2"]),
    multiple=True,
    default=("fc1", "fc2"),
    show_default=True,
    help="C -> H or H -> C; may be given twice.",
)
@click.option(
    "--bandwidths",
    show_default="C / 2, C",
    callback=numbers_above_0,
    help="Beside dense, separated by commas.",
)
@execution_option
@precision_option
@click.option("--calls", type=POSITIVE, default=3, show_default=True, help="Timed in a round.")
@peer_options
@threads_option
@common_options
def linear(
    tokens: int,
    channels: int,
    hidden: int,
    bandwidths: list[int] | None,
    calls: int,
    peer: str | None,
    peer_python: str | None,
    threads: int,
    repeats: int,
    as_json: bool,
    **choices: Any,
) -> None:
    """Time fc1 and fc2, forward and backward: dense, banded, and PyTorch's.

    A band is stored and multiplied alone here whether that pays or not.
    """
    from pyllmc.bench.machine import all_threads
    from pyllmc.bench.ops import linear_contestants

    threads = all_threads(threads)
    hidden = hidden or 4 * channels
    choices["bandwidths"] = bandwidths or [max(1, channels // 2), channels]
    with ExitStack() as stack:
        contestants = linear_contestants(
            tokens=tokens,
            channels=channels,
            hidden=hidden,
            threads=threads,
            calls=calls,
            peer=torch_peer(stack, peer_python, "torch") if peer else None,
            **choices,
        )
        settings = {"M": tokens, "channels": channels, "hidden": hidden, "calls": calls}
        compete("linear", settings | choices, contestants, threads, repeats, as_json)


@click.command()
@tokens_option
@click.option("--channels", "-C", type=POSITIVE, default=128, show_default=True, help="C.")
@vocab_option()
@precision_option
@click.option("--calls", type=POSITIVE, default=3, show_default=True, help="Timed in a round.")
@peer_options
@threads_option
@common_options
def loss(
    tokens: int,
    channels: int,
    vocab: int,
    precisions: tuple[str, ...],
    calls: int,
    peer: str | None,
    peer_python: str | None,
    threads: int,
    repeats: int,
    as_json: bool,
) -> None:
    """Time the output head and cross-entropy with their gradients."""
    from pyllmc.bench.machine import all_threads
    from pyllmc.bench.ops import loss_contestants

    threads = all_threads(threads)
    with ExitStack() as stack:
        contestants = loss_contestants(
            tokens=tokens,
            channels=channels,
            vocab=vocab,
            precisions=precisions,
            threads=threads,
            calls=calls,
            peer=torch_peer(stack, peer_python, "torch") if peer else None,
        )
        settings = {"M": tokens, "channels": channels, "vocab": vocab, "calls": calls}
        compete("loss", settings, contestants, threads, repeats, as_json)
