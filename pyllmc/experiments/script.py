"""The matrix as a plain shell script: the same commands, nothing remembered."""

from __future__ import annotations

import shlex
from pathlib import Path

from pyllmc.experiments.command import command_groups
from pyllmc.experiments.matrix import Matrix


def shell_script(matrix: Matrix) -> str:
    """POSIX shell that makes the initial weights if they are missing and runs every cell in turn.

    Paths are as the matrix file has them, relative to where the script is started.
    """
    lines = [
        "#!/bin/sh",
        f"# {matrix.title}",
        f"# Made by `pyllmc matrix script {matrix.folder}`; start it from the repository's root.",
        "# The data must be there (pyllmc data prepare). What it made before is made again.",
        "set -u",
        "TRAIN=${TRAIN:-./train_banded}",
        "PYLLMC=${PYLLMC:-pyllmc}",
        f"OUT=${{OUT:-{shlex.quote(str(matrix.out))}}}",
        "failed=0",
        "",
        'mkdir -p "$OUT/logs" "$OUT/checkpoints"',
    ]
    for weights in dict.fromkeys(matrix.weights(cell.run, cell.seed) for cell in matrix.cells()):
        path, model = _result(matrix, weights.path), weights.model
        mlp = f" --hidden {model.hidden}" if model.hidden else ""
        mlp += f" --mlp-rank {model.mlp_rank}" if model.mlp_rank else ""
        lines += [
            f'[ -f {path} ] || "$PYLLMC" model init --channels {model.channels} '
            f"--layers {model.layers} \\",
            f"    --heads {model.heads} --context {model.context} --vocab {model.vocab}{mlp} "
            f"--init {model.init} \\",
            f"    --seed {weights.seed} -o {path} || exit 1",
        ]
    for cell in matrix.cells():
        bands, *groups = (_words(matrix, group) for group in command_groups(matrix, cell))
        lines += [
            "",
            f"# {cell.run.label}" + ("" if cell.seed is None else f", seed {cell.seed}"),
            f'"$TRAIN" {" ".join(bands)} \\',
        ]
        lines += [f"    {' '.join(group)} \\" for group in groups[:-1] if group]
        lines += [f"    {' '.join(groups[-1])} || failed=1"]
    return "\n".join([*lines, "", "exit $failed"]) + "\n"


def _words(matrix: Matrix, group: list[str]) -> list[str]:
    """A group quoted for the shell, paths of results with the output folder as a variable."""
    results = ("-e", "-c", "-o")
    return [
        _result(matrix, Path(word)) if before in results else shlex.quote(word)
        for before, word in zip(["", *group], group, strict=False)
    ]


def _result(matrix: Matrix, path: Path) -> str:
    return f'"$OUT/{path.relative_to(matrix.out)}"'
