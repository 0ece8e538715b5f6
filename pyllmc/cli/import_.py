"""`pyllmc import`: models of other programs."""

from __future__ import annotations

from pathlib import Path

import click

from pyllmc.cli.group import Group


@click.group(name="import", cls=Group)
def import_() -> None:
    """Read a model of another program."""


@import_.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("model.bin"),
    show_default=True,
    help="File to write.",
)
def hf(folder: Path, output: Path) -> None:
    """Turn a Hugging Face GPT-2 into an llm.c checkpoint.

    FOLDER holds config.json and model.safetensors of a GPT2LMHeadModel, as `pyllmc export hf` or
    transformers' save_pretrained write them (weights as a pickle are not read). Any other model,
    also a GPT-2 with an untied head or another activation, is refused.

    \b
      pyllmc import hf model-hf -o model.bin
    """
    from pyllmc.interop.hf_import import import_hf

    import_hf(folder, output)
    click.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)
