"""`pyllmc model`: initial weights."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.group import Group


@click.group(cls=Group)
def model() -> None:
    """Write a model's initial weights."""


@model.command()
@click.option("--channels", "-C", default=128, show_default=True, help="Width C.")
@click.option("--layers", "-L", default=4, show_default=True, help="Blocks L.")
@click.option("--heads", default=4, show_default=True, help="Attention heads NH; must divide C.")
@click.option("--context", default=256, show_default=True, help="Longest sequence maxT.")
@click.option("--vocab", default=50257, show_default=True, help="Vocabulary size V.")
@click.option("--hidden", default=0, show_default="4C", help="Width H of the MLP.")
@click.option(
    "--mlp-rank", default=0, show_default="full matrices", help="Rank r of both MLP weights."
)
@click.option(
    "--init",
    type=click.Choice(["gpt2", "original"]),
    default="gpt2",
    show_default=True,
    help="gpt2: N(0, 0.02), residual projections / sqrt(2L), biases 0. original: as experiments "
    "7 to 9, every matrix N(0, 0.02), Linear biases U(±1/sqrt(inputs)).",
)
@click.option("--seed", default=1337, show_default=True, help="Equal seeds give equal weights.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("model.bin"),
    show_default=True,
    help="File to write.",
)
def init(
    channels: int,
    layers: int,
    heads: int,
    context: int,
    vocab: int,
    hidden: int,
    mlp_rank: int,
    init: str,
    seed: int,
    output: Path,
) -> None:
    """Write the initial weights of a GPT-2 to a model file.

    \b
      pyllmc model init --channels 128 --layers 4 --heads 4 --context 256 --vocab 50257

    A matrix draws from a stream keyed by its name and the seed, so models of equal shape share
    their weights whatever else differs. The file has llm.c's layout unless --hidden or --mlp-rank
    ask for what that cannot say.
    """
    from pyllmc.models.init import init_model

    init_model(output, channels, layers, heads, context, vocab, init, seed, hidden, mlp_rank)
    click.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)
