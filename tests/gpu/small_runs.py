"""Small, ragged training runs that touch every kernel, all at once, each as the last words of the
command that this script is given: what compute-sanitizer watches."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pyllmc import _core
from pyllmc.data.token_file import token_file_writer
from pyllmc.programs import train_banded_path

VOCAB = 211
RUNS = [
    ["--precision", "bf16", "-1", "60", "-2", "60"],
    ["--precision", "fp32", "-1", "60", "--accumulate", "2"],
    ["--precision", "tf32", "-2", "60", "--execution", "mask", "--mask-init", "0"],
]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _core.init_checkpoint(str(folder / "model.bin"), 48, 2, 3, 40, VOCAB)
        with token_file_writer(folder / "tokens.bin") as out:
            random = np.random.default_rng(0)
            out.append(random.integers(0, VOCAB, 4000, dtype=np.uint16))
        children = []
        for run in RUNS:
            command = [*sys.argv[1:], str(train_banded_path()), "-e", str(folder / "model.bin")]
            command += ["-i", str(folder / "tokens.bin"), "-j", str(folder / "tokens.bin"), *run]
            command += ["-n", "3", "-b", "3", "-t", "37", "-v", "3", "-m", "2", "-g", "6"]
            command += ["--device", "cuda", "--grad-clip", "1"]
            children.append(subprocess.Popen(command))
        return max(abs(child.wait()) for child in children)


if __name__ == "__main__":
    sys.exit(main())
