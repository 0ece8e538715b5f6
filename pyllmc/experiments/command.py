"""The train_banded command line of a cell, in the short options of the original scripts."""

from __future__ import annotations

from pyllmc.experiments.matrix import Cell, Matrix
from pyllmc.experiments.settings import SETTINGS

_BANDS = ("fc1_bandwidth", "fc2_bandwidth")


def command_groups(matrix: Matrix, cell: Cell) -> list[list[str]]:
    """The options in groups that read well one a line: bands, files, data, settings, log.

    Only what the matrix file says is written; train_banded's defaults stand for the rest.
    """
    run, seed = cell.run, cell.seed
    bands = []
    for name in _BANDS:
        bands += SETTINGS[name].words(run.settings.get(name, 0))
    files = [
        "-e",
        str(matrix.weights(run, seed).path),
        "-c",
        str(matrix.checkpoint_path(run, seed)),
    ]
    data = ["-i", run.data.train, "-j", run.data.val]
    if run.data.test is not None:
        data += ["--test-data", run.data.test]
    settings = [] if seed is None else ["--seed", str(seed)]
    for setting in SETTINGS.values():
        if setting.name in run.settings and setting.name not in (*_BANDS, "threads"):
            settings += setting.words(run.settings[setting.name])
    log = ["-o", str(matrix.log_path(run, seed))]
    return [bands, files, data, settings, log]


def command(
    matrix: Matrix,
    cell: Cell,
    program: str,
    threads: int | None = None,
    device: str | None = None,
) -> list[str]:
    """The whole command, `threads` and `device` last when given."""
    words = [program]
    for group in command_groups(matrix, cell):
        words += group
    words += [] if threads is None else ["--threads", str(threads)]
    return words if device is None else [*words, "--device", device]
