"""What the commands of `pyllmc bench` ask for in the same way, and how they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pyllmc.bench.peer import TorchPeer
    from pyllmc.bench.rounds import Contestant

F = TypeVar("F", bound=Callable[..., Any])
POSITIVE = click.IntRange(min=1)


def combined(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order of the help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


common_options = combined(
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
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default="all processors",
    help="Threads.",
)
precision_option = click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "bf16"]),
    multiple=True,
    default=("fp32",),
    show_default=True,
    help="Of the products' operands; may be given twice.",
)
execution_option = click.option(
    "--execution",
    "executions",
    type=click.Choice(["band", "mask"]),
    multiple=True,
    default=("band",),
    show_default=True,
    help="band = stored and multiplied alone, mask = as whole matrices; may be given twice.",
)
peer_options = combined(
    click.option("--peer", type=click.Choice(["torch"]), help="Time PyTorch in turn with ours."),
    click.option(
        "--peer-python",
        metavar="PATH",
        help="Interpreter that can import torch.  [default: this one]",
    ),
)
model_options = combined(
    click.option("--channels", "-C", type=POSITIVE, default=128, show_default=True, help="C."),
    click.option("--layers", "-L", type=POSITIVE, default=4, show_default=True, help="Blocks L."),
    click.option("--heads", type=POSITIVE, default=4, show_default=True, help="Heads NH."),
)
tokens_option = click.option(
    "--tokens", "-M", type=POSITIVE, default=4096, show_default=True, help="Rows, B T."
)


def vocab_option(default: int = 50257, *, trained: bool = False) -> Callable[[F], F]:
    """The vocabulary's size; tokens that are trained on come from a file that has 16 bits each."""
    most = 1 << 16 if trained else None
    return click.option(
        "--vocab",
        type=click.IntRange(1, most),
        default=default,
        show_default=True,
        help="Vocabulary V.",
    )


def numbers_above_0(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int] | None:
    """A list such as 256,512; None where nothing was given."""
    if value is None:
        return None
    try:
        found = [int(word) for word in value.split(",") if word]
    except ValueError:
        found = [0]
    if not found or any(number < 1 for number in found):
        raise click.BadParameter(f"{value!r} is no list of numbers above 0, such as 256,512")
    return found


def torch_peer(stack: ExitStack, python: str | None, what: str) -> TorchPeer:
    """PyTorch in a process of its own, which ends with the stack. Raises UsageError without it."""
    from pyllmc.bench.peer import TorchPeer, require_torch

    python = python or sys.executable
    require_torch(python)
    slow = "" if "eager" in what else " (compiling takes about a minute)"
    click.echo(f"preparing {what}{slow} ...", err=True)
    return stack.enter_context(TorchPeer(python))


def compete(
    name: str,
    settings: dict[str, Any],
    contestants: Sequence[Contestant],
    threads: int,
    repeats: int,
    as_json: bool,
) -> None:
    """Run the contestants in turn and print what came out."""
    from pyllmc.bench import rounds
    from pyllmc.bench.machine import Peak
    from pyllmc.bench.table import show

    peak = Peak(threads, tuple(dict.fromkeys(c.precision for c in contestants)))
    rounds.compete(contestants, repeats, peak, f"bench {name}")
    found = rounds.result(
        name, {**settings, "threads": threads, "repeats": repeats}, contestants, peak
    )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found)
