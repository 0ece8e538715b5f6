"""`pyllmc bench generate` and `data`: what a user waits for besides training."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.bench_options import (
    POSITIVE,
    common_options,
    compete,
    model_options,
    precision_option,
    vocab_option,
)


@click.command()
@model_options
@vocab_option()
@click.option("--context", type=POSITIVE, default=256, show_default=True, help="Positions maxT.")
@click.option("--tokens", type=POSITIVE, default=128, show_default=True, help="Drawn in a round.")
@precision_option
@common_options
def generate(
    tokens: int, precisions: tuple[str, ...], repeats: int, as_json: bool, **sizes: int
) -> None:
    """Time drawing text on one thread, against reading the weights as often from memory."""
    from pyllmc.bench.generate import generate_contestants

    contestants = generate_contestants(tokens=tokens, precisions=precisions, **sizes)
    compete("generate", {**sizes, "tokens": tokens}, contestants, 1, repeats, as_json)


@click.command()
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
@common_options
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
        compete("data", settings, contestants, all_threads(0), repeats, as_json)
