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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.option(
    "--profile", is_flag=True, help="Also print the share of |W| by distance from the diagonal."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    help="Where the sums are made; cuda needs CuPy.",
)
def inspect(file: Path, as_json: bool, profile: bool, device: str) -> None:
    """Show what a model or checkpoint holds.

    FILE is a model or checkpoint of pyllmc or llm.c (fp32 or bf16): its shape, step, seeds, the
    density of each MLP weight and the share of |W| inside its pattern. A warning says when the
    weights disagree with the pattern that the header records. (Token files: `pyllmc data show`.)

    \b
      pyllmc inspect model.bin
      pyllmc inspect runs/demo/checkpoints/ckpt_fc1_bw256.bin --json
    """
    from pyllmc.models.inspection import inspect_checkpoint

    found = inspect_checkpoint(file, device)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
        if profile:
            _print_profiles(found)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


def _print(found: Inspection) -> None:
    h = found.header
    if h["llmc"]:
        version = {"fp32": 3, "bf16": 5}[h["precision"]]
        kind = f"llm.c version {version} ({h['precision']})"
    else:
        kind = "pyllmc's own layout (fp32)"
    click.echo(f"{found.path}: GPT-2 checkpoint, {kind}")
    click.echo(
        f"  C = {h['channels']}, L = {h['num_layers']}, NH = {h['num_heads']}, "
        f"maxT = {h['max_seq_len']}, V = {h['vocab_size']}, Vp = {h['padded_vocab_size']}, "
        f"{found.parameters:,} parameters"
    )
    if h["hidden"] != 4 * h["channels"] or h["mlp_rank"]:
        rank = f", weights of rank {h['mlp_rank']}" if h["mlp_rank"] else ""
        click.echo(f"  MLP: H = {h['hidden']}{rank}")
    if h["has_meta"]:
        drawn = "" if h["pattern"] == "band" else f", {h['pattern']} (mask seed {h['mask_seed']})"
        click.echo(
            f"  step {h['step']}, init seed {h['init_seed']}, data seed {h['data_seed']}, "
            f"fc1 bandwidth {_widths(h['fc1_bandwidth'])}, "
            f"fc2 bandwidth {_widths(h['fc2_bandwidth'])} (0 = dense){drawn}"
        )
    else:
        click.echo("  a plain llm.c file: no bandwidths, step or seeds recorded")
    click.echo("  layer  weight     kept /    total  density   not 0  |W| in band")
    for w in found.weights:
        click.echo(
            f"  {w.layer:5d}  {w.name:6s} {w.kept:8,d} / {w.total:8,d}  {w.kept / w.total:6.1%}  "
            f"{w.nonzero / w.total:6.1%}  {w.inside:10.2%}"
        )


def _print_profiles(found: Inspection) -> None:
    hidden = found.header["hidden"]
    bins = len(next((w.profile for w in found.weights if w.profile), ()))
    edges = "".join(f"{hidden * (b + 1) / bins:8.0f}" for b in range(bins))
    click.echo(f"  share of |W| up to a distance from the diagonal of ... of {hidden} hidden units")
    click.echo(f"  layer  weight{edges}")
    for w in found.weights:
        shares = "".join(f"{share:8.1%}" for share in w.profile)
        click.echo(f"  {w.layer:5d}  {w.name:6s}{shares}")


def _widths(bandwidths: list[int]) -> str:
    return ",".join(
        str(width) for width in (bandwidths if len(set(bandwidths)) > 1 else bandwidths[:1])
    )
