"""`pyllmc export`: a model or a matrix's runs in other programs' formats."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.export_runs import runs
from pyllmc.cli.group import Group

# Vocabularies that a model's size gives away.
_KNOWN = {50257: "gpt2", 1024: "ministories"}


@click.group(cls=Group)
def export() -> None:
    """Write a model or an experiment's runs in other programs' formats."""


@export.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="gpt2, ministories, a tokenizer .bin or .tiktoken file, or none.  [default: gpt2 for "
    "V = 50257, ministories for V = 1024, else none]",
)
def hf(checkpoint: Path, folder: Path, tokenizer: str | None) -> None:
    """Write a model as a folder for Hugging Face's transformers.

    FOLDER, which is made and loads as GPT2LMHeadModel, gets model.safetensors, config.json,
    generation_config.json and the tokenizer's files. Step, bandwidths and seeds are kept in the
    weights' metadata: `pyllmc import hf` gives the same checkpoint back.

    \b
      pyllmc export hf model.bin model-hf
      pyllmc export hf model.bin model-hf --tokenizer data/mine/mine_tokenizer.bin
    """
    from pyllmc.interop.hf_export import export_hf
    from pyllmc.interop.hf_tokenizer import tokenizer_files
    from pyllmc.interop.llmc import plain_header

    V = plain_header(checkpoint)["vocab_size"]
    name = tokenizer or _KNOWN.get(V, "none")
    export_hf(checkpoint, folder, None if name == "none" else tokenizer_files(name))
    if tokenizer is None:
        why = f"V = {V:,}; --tokenizer names another"
        click.echo(f"tokenizer: {name} ({why})", err=True)
    click.echo(f"wrote {folder}", err=True)


@export.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp32"]),
    required=True,
    help="bf16: version 5, rounded to the nearest, half the size. fp32: version 3.",
)
def llmc(checkpoint: Path, output: Path, precision: str) -> None:
    """Write an llm.c checkpoint in another precision.

    \b
      pyllmc export llmc model.bin model_bf16.bin --precision bf16
    """
    from pyllmc.interop.llmc import export_llmc

    export_llmc(checkpoint, output, precision)
    click.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)


export.add_command(runs)
