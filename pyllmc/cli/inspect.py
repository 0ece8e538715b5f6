"""`pyllmc inspect`: what a file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pyllmc.models.inspection import Inspection


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def inspect(file: Path, as_json: bool) -> None:
    """Show what a model or checkpoint holds.

    FILE is a model or checkpoint of pyllmc or llm.c (fp32 or bf16): its shape, step, seeds, the
    density of each MLP weight and the share of |W| inside its band. A warning says when the
    weights disagree with the bandwidths in the header. (Token files: `pyllmc data show`.)

    \b
      pyllmc inspect model.bin
      pyllmc inspect runs/demo/checkpoints/ckpt_fc1_bw256.bin --json
    """
    from pyllmc.models.inspection import inspect_checkpoint

    found = inspect_checkpoint(file)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


def _print(found: Inspection) -> None:
    h = found.header
    version = {"fp32": 3, "bf16": 5}[h["precision"]]
    click.echo(f"{found.path}: GPT-2 checkpoint, llm.c version {version} ({h['precision']})")
    click.echo(
        f"  C = {h['channels']}, L = {h['num_layers']}, NH = {h['num_heads']}, "
        f"maxT = {h['max_seq_len']}, V = {h['vocab_size']}, Vp = {h['padded_vocab_size']}, "
        f"{found.parameters:,} parameters"
    )
    if h["has_meta"]:
        click.echo(
            f"  step {h['step']}, init seed {h['init_seed']}, data seed {h['data_seed']}, "
            f"fc1 bandwidth {h['fc1_bandwidth']}, fc2 bandwidth {h['fc2_bandwidth']} (0 = dense)"
        )
    else:
        click.echo("  a plain llm.c file: no bandwidths, step or seeds recorded")
    click.echo("  layer  weight     kept /    total  density   not 0  |W| in band")
    for w in found.weights:
        click.echo(
            f"  {w.layer:5d}  {w.name:6s} {w.kept:8,d} / {w.total:8,d}  {w.kept / w.total:6.1%}  "
            f"{w.nonzero / w.total:6.1%}  {w.inside:10.2%}"
        )
