"""`pyllmc bench`: speed on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pyllmc.bench.peer import TorchPeer
    from pyllmc.bench.rounds import Contestant

F = TypeVar("F", bound=Callable[..., Any])
POSITIVE = click.IntRange(min=1)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_common = _options(
    click.option(
        "--repeats",
        "-r",
        type=POSITIVE,
        default=5,
        show_default=True,
        help="Rounds of all in turn.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object."),
)
_threads = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default="all processors",
    help="Threads.",
)
_precision = click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "bf16"]),
    multiple=True,
    default=("fp32",),
    show_default=True,
    help="Of the products' operands; may be given twice.",
)
_execution = click.option(
    "--execution",
    "executions",
    type=click.Choice(["band", "mask"]),
    multiple=True,
    default=("band",),
    show_default=True,
    help="How bands are stored and multiplied; may be given twice.",
)
_peer = _options(
    click.option("--peer", type=click.Choice(["torch"]), help="Time PyTorch in turn with ours."),
    click.option(
        "--peer-python",
        metavar="PATH",
        help="Interpreter that can import torch.  [default: this one]",
    ),
)
_model = _options(
    click.option("--channels", "-C", type=POSITIVE, default=128, show_default=True, help="C."),
    click.option("--layers", "-L", type=POSITIVE, default=4, show_default=True, help="Blocks L."),
    click.option("--heads", type=POSITIVE, default=4, show_default=True, help="Heads NH."),
    click.option("--vocab", type=POSITIVE, default=50257, show_default=True, help="Vocabulary V."),
)
_tokens = click.option(
    "--tokens", "-M", type=POSITIVE, default=4096, show_default=True, help="Rows, B T."
)


def _bandwidths(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        found = [int(word) for word in value.split(",") if word]
    except ValueError:
        found = [0]
    if any(bandwidth < 1 for bandwidth in found):
        raise click.BadParameter(f"{value!r} is not a list such as 256,512 of numbers above 0")
    return found


@click.group()
def bench() -> None:
    """Measure the speed of pyllmc on this machine.

    What is compared runs in turn, several rounds; times are medians, ratios are taken within a
    round. Beside each figure stands its share of what the machine did in the same run at best:
    multiply-adds in registers, and copying memory. The losses mean nothing: weights and tokens are
    random.

    \b
    pyllmc bench step --peer torch --peer-python ~/torch/bin/python
    pyllmc bench linear --channels 512 --bandwidths 256,512
    """


@bench.command()
@_model
@click.option(
    "--batch-size", "-b", type=POSITIVE, default=16, show_default=True, help="Sequences B."
)
@click.option(
    "--sequence-length", "-t", type=POSITIVE, default=256, show_default=True, help="Tokens T."
)
@click.option("--fc1-bandwidth", "-1", default=0, show_default=True, help="0 = dense.")
@click.option("--fc2-bandwidth", "-2", default=0, show_default=True, help="0 = dense.")
@_execution
@_precision
@click.option(
    "--steps", type=POSITIVE, default=3, show_default=True, help="Timed in a round, after two."
)
@_peer
@_threads
@_common
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
                    _torch(stack, peer_python, f"torch {mode} {precision}").contestant(
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
        _compete("step", {**sizes, "steps": steps}, [*theirs, *ours], threads, repeats, as_json)


@bench.command()
@_tokens
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
    default="256,512",
    show_default=True,
    callback=_bandwidths,
    help="Beside dense, separated by commas.",
)
@_execution
@_precision
@click.option("--calls", type=POSITIVE, default=3, show_default=True, help="Timed in a round.")
@_peer
@_threads
@_common
def linear(
    tokens: int,
    channels: int,
    hidden: int,
    calls: int,
    peer: str | None,
    peer_python: str | None,
    threads: int,
    repeats: int,
    as_json: bool,
    **choices: Any,
) -> None:
    """Time fc1 and fc2, forward and backward: dense, banded, and PyTorch's."""
    from pyllmc.bench.machine import all_threads
    from pyllmc.bench.ops import linear_contestants

    threads = all_threads(threads)
    hidden = hidden or 4 * channels
    with ExitStack() as stack:
        contestants = linear_contestants(
            tokens=tokens,
            channels=channels,
            hidden=hidden,
            threads=threads,
            calls=calls,
            peer=_torch(stack, peer_python, "torch") if peer else None,
            **choices,
        )
        settings = {"M": tokens, "channels": channels, "hidden": hidden, "calls": calls}
        _compete("linear", settings | choices, contestants, threads, repeats, as_json)


@bench.command()
@_tokens
@click.option("--channels", "-C", type=POSITIVE, default=128, show_default=True, help="C.")
@click.option("--vocab", type=POSITIVE, default=50257, show_default=True, help="Vocabulary V.")
@_precision
@click.option("--calls", type=POSITIVE, default=3, show_default=True, help="Timed in a round.")
@_peer
@_threads
@_common
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
            peer=_torch(stack, peer_python, "torch") if peer else None,
        )
        settings = {"M": tokens, "channels": channels, "vocab": vocab, "calls": calls}
        _compete("loss", settings, contestants, threads, repeats, as_json)


@bench.command()
@_model
@click.option("--context", type=POSITIVE, default=256, show_default=True, help="Positions maxT.")
@click.option("--tokens", type=POSITIVE, default=128, show_default=True, help="Drawn in a round.")
@_precision
@_common
def generate(
    tokens: int, precisions: tuple[str, ...], repeats: int, as_json: bool, **sizes: int
) -> None:
    """Time drawing text on one thread, against reading the weights as often from memory."""
    from pyllmc.bench.generate import generate_contestants

    contestants = generate_contestants(tokens=tokens, precisions=precisions, **sizes)
    _compete("generate", {**sizes, "tokens": tokens}, contestants, 1, repeats, as_json)


@bench.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--megabytes",
    type=click.FloatRange(min=0.01),
    default=20.0,
    show_default=True,
    help="Of built-in stories, when no file is given.",
)
@click.option("--separator", default="<|endoftext|>", show_default=True, help="Between documents.")
@click.option("--tokenizer", default="gpt2", show_default=True, help="gpt2 or ministories.")
@_common
def data(
    files: tuple[Path, ...],
    megabytes: float,
    separator: str,
    tokenizer: str,
    repeats: int,
    as_json: bool,
) -> None:
    """Time tokenizing text files into token files, against tiktoken's encode_ordinary_batch.

    Ours reads, encodes and writes; tiktoken has the documents in memory and leaves the ids there.
    """
    from pyllmc.bench.data import data_contestants
    from pyllmc.bench.machine import all_threads

    settings = {"tokenizer": tokenizer, "files": len(files), "megabytes": megabytes}
    with data_contestants(files, megabytes, tokenizer, separator) as contestants:
        _compete("data", settings, contestants, all_threads(0), repeats, as_json)


@bench.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results.")
@click.option("--quick", is_flag=True, help="Tiny shapes, one round: a trial of the command.")
@click.option(
    "--channels",
    default="128,512,1024",
    show_default=True,
    callback=_bandwidths,
    help="Widths whose bandwidths are swept.",
)
@click.option("--layers", "-L", type=POSITIVE, default=2, show_default=True, help="L of these.")
@click.option("--vocab", type=POSITIVE, default=4096, show_default=True, help="V of these.")
@click.option("--batch-size", "-b", type=POSITIVE, default=4, show_default=True, help="B.")
@click.option("--sequence-length", "-t", type=POSITIVE, default=256, show_default=True, help="T.")
@_precision
@click.option(
    "--steps", type=POSITIVE, default=3, show_default=True, help="Timed in a round, at least."
)
@_threads
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


def _torch(stack: ExitStack, python: str | None, what: str) -> TorchPeer:
    from pyllmc.bench.peer import TorchPeer, require_torch

    python = python or sys.executable
    require_torch(python)
    slow = "" if "eager" in what else " (compiling takes about a minute)"
    click.echo(f"preparing {what}{slow} ...", err=True)
    return stack.enter_context(TorchPeer(python))


def _compete(
    name: str,
    settings: dict[str, Any],
    contestants: Sequence[Contestant],
    threads: int,
    repeats: int,
    as_json: bool,
) -> None:
    from pyllmc.bench.machine import Peak
    from pyllmc.bench.rounds import compete, result
    from pyllmc.bench.table import show

    peak = Peak(threads, tuple(dict.fromkeys(c.precision for c in contestants)))
    compete(contestants, repeats, peak, f"bench {name}")
    found = result(name, {**settings, "threads": threads, "repeats": repeats}, contestants, peak)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found)
