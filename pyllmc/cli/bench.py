"""`pyllmc bench`: speed on this machine."""

from __future__ import annotations

import click

from pyllmc.cli.bench_ops import linear, loss
from pyllmc.cli.bench_step import step
from pyllmc.cli.bench_sweep import sweep
from pyllmc.cli.bench_whole import data, generate
from pyllmc.cli.group import Group


@click.group(cls=Group)
def bench() -> None:
    """Measure the speed of pyllmc on this machine's processors.

    What is compared runs in turn, several rounds; times are medians, ratios are taken within a
    round. Beside each figure stands its share of what the machine did in the same run at best:
    multiply-adds in registers, and copying memory. The losses mean nothing: weights and tokens are
    random.

    \b
    pyllmc bench step --peer torch --peer-python ~/torch/bin/python
    pyllmc bench linear --channels 512 --bandwidths 256,512
    """


for command in (step, linear, loss, generate, data, sweep):
    bench.add_command(command)
